"""Dataset: numbering of classes and images, lookups, defaults."""

import logging

import numpy as np
import pytest
from PIL import Image

from mrcnn.data.dataset import (
    Dataset,
    has_rles,
    match_class_names,
    overrides,
    reference,
    shared_images,
)


def two_sources():
    dataset = Dataset()
    dataset.add_class("coco", 17, "cat,animal")
    dataset.add_class("own", "a", "screw")
    dataset.add_class("coco", 18, "dog")
    dataset.add_image("coco", 901, "cat.jpg", width=640)
    dataset.add_image("own", "x7", "screw.png")
    dataset.prepare()
    return dataset


def test_an_empty_dataset_has_the_background_only():
    dataset = Dataset()
    assert list(dataset.image_ids) == []
    dataset.prepare()
    assert (dataset.num_classes, dataset.num_images, dataset.class_names) == (1, 0, ["BG"])
    assert list(dataset.image_ids) == [] and dataset.class_ids.tolist() == [0]


def test_prepare_numbers_classes_and_images_in_order():
    dataset = two_sources()
    assert dataset.class_names == ["BG", "cat", "screw", "dog"]
    assert dataset.class_ids.tolist() == [0, 1, 2, 3]
    assert dataset.image_ids.tolist() == [0, 1]
    assert (dataset.num_classes, dataset.num_images) == (4, 2)
    assert dataset.image_info[0] == {"id": 901, "source": "coco", "path": "cat.jpg", "width": 640}
    assert dataset.class_info[2] == {"source": "own", "id": "a", "name": "screw"}


def test_each_source_has_its_classes_and_the_background():
    dataset = two_sources()
    assert set(dataset.sources) == {"", "coco", "own"}
    assert dataset.source_class_ids["coco"] == [0, 1, 3]
    assert dataset.source_class_ids["own"] == [0, 2]
    assert dataset.map_source_class_id("coco.18") == 3
    assert dataset.get_source_class_id(3, "coco") == 18
    assert dataset.class_from_source_map["own.a"] == 2
    assert dataset.image_from_source_map == {"coco.901": 0, "own.x7": 1}
    with pytest.raises(ValueError, match=r"class 3 \(dog\) of 'coco', asked for 'own'"):
        dataset.get_source_class_id(3, "own")


def test_class_added_twice_counts_once():
    dataset = two_sources()
    dataset.add_class("coco", 18, "dog again")
    dataset.prepare()
    assert dataset.class_names == ["BG", "cat", "screw", "dog"]


def test_dot_in_the_name_of_a_source_is_refused():
    with pytest.raises(ValueError, match="not contain a dot. Received: 'my.data'"):
        Dataset().add_class("my.data", 1, "x")


def test_load_image_reads_the_file_and_names_a_missing_one(tmp_path):
    Image.fromarray(np.full((3, 4), 7, np.uint8)).save(tmp_path / "grey.png")
    dataset = Dataset()
    dataset.add_image("own", 1, tmp_path / "grey.png")
    dataset.add_image("own", 2, tmp_path / "gone.png")
    dataset.prepare()
    np.testing.assert_array_equal(dataset.load_image(0), np.full((3, 4, 3), 7))
    assert dataset.source_image_link(1) == tmp_path / "gone.png"
    with pytest.raises(ValueError, match="gone.png"):
        dataset.load_image(1)


def test_defaults_of_what_a_subclass_overrides(caplog):
    class Own(Dataset):
        def load_mask(self, image_id):
            return super(self.__class__, self).load_mask(image_id)  # as old scripts write it

    dataset = Own()
    with caplog.at_level(logging.WARNING, "mrcnn"):
        masks, class_ids = dataset.load_mask(0)
    assert (
        masks.size == 0
        and masks.dtype == bool
        and class_ids.shape == (0,)
        and class_ids.dtype == np.int32
    )
    assert "Own" in caplog.text
    assert dataset.image_reference(0) == ""


def test_reference_is_own_reference_path_or_id():
    class Own(Dataset):
        def image_reference(self, image_id):
            return {0: None, 1: "https://here/1"}[image_id]

    dataset = Own()
    for i in range(3):
        dataset.add_image("own", f"no{i}", path=None if i else "a\x1b[2J.png")
    # Its path without control characters, its own reference, and the id if that raises.
    assert [reference(dataset, i) for i in range(3)] == ["a [2J.png", "https://here/1", "no2"]


def test_images_that_two_datasets_share(tmp_path):
    one, two = Dataset(), Dataset()
    for name in ("a.png", "b.png", "c.png"):
        one.add_image("own", name, path=str(tmp_path / name))
        two.add_image("other", name, path=f"{tmp_path}/sub/../{name}")
    two.add_image("other", "d", path=str(tmp_path / "d.png"))
    one.add_image("own", "drawn", path=None)
    two.add_image("own", "drawn", path=None)
    assert shared_images(one, two) == shared_images(two, one) == 3
    assert shared_images(one, Dataset()) == 0


class Masks(Dataset):
    def __init__(self, masks, class_ids):
        super().__init__()
        self.truth = masks, class_ids

    def load_mask(self, image_id):
        return self.truth


def test_boxes_are_those_of_the_masks():
    for shape in ((0,), (0, 0, 0), (8, 8, 0)):  # any empty shape is accepted
        found, class_ids = Masks(np.zeros(shape), []).load_bbox(0)
        assert found.shape == (0, 4) and len(class_ids) == 0
    masks = np.zeros((10, 12, 2), bool)
    masks[2:5, 3:9, 0] = True
    found, class_ids = Masks(masks, [1, -2]).load_bbox(0)
    assert found.tolist() == [[2, 3, 5, 9], [0, 0, 0, 0]] and class_ids.tolist() == [1, -2]
    assert Masks(masks[:, :, 0], [1]).load_bbox(0)[0].tolist() == [[2, 3, 5, 9]]


def test_overrides_of_class_and_instance():
    dataset = Masks(np.zeros((0, 0, 0)), [])
    assert overrides(dataset, "load_mask") and not overrides(dataset, "load_bbox")
    assert not overrides(Dataset(), "load_mask")
    dataset.load_bbox = lambda image_id: (np.zeros((0, 4)), [])
    assert overrides(dataset, "load_bbox")
    assert not overrides(object(), "load_bbox")


def test_class_ids_are_read_from_rles_unless_masks_are_overridden():
    class Outlined(Dataset):
        def load_rles(self, image_id):
            return [], [1, -2]

        def load_mask(self, image_id):
            return self.load_rles(image_id)

    class Drawn(Outlined):
        def load_mask(self, image_id):
            return np.ones((2, 2, 1)), [3]

    assert Outlined().load_class_ids(0).tolist() == [1, -2] and has_rles(Outlined())
    # A subclass that overrides load_mask does not use the run-length codes.
    assert Drawn().load_class_ids(0).tolist() == [3] and not has_rles(Drawn())
    assert (
        Dataset().load_class_ids(0).shape == (0,) and Dataset().load_class_ids(0).dtype == np.int32
    )


def test_class_names_equal_before_the_comma_are_not_cut():
    dataset = Dataset()
    for class_id, name in enumerate(["cat, black", "cat, white", "dog, any"], 1):
        dataset.add_class("x", class_id, name)
    dataset.prepare()
    assert dataset.class_names == ["BG", "cat, black", "cat, white", "dog"]


def test_control_characters_of_a_class_name_are_removed():
    dataset = Dataset()
    dataset.add_class("x", 1, "\x1b[31mcat\ud800\r\n")
    dataset.prepare()
    assert dataset.class_names == ["BG", "[31mcat\ufffd"]


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (["cat", "dog"], ["dog", "cow", "cat"], {"cat": 2, "dog": 0}),
        (["cat, any", "dog"], ["cat", "dog, small"], {"cat, any": 0, "dog": 1}),
        (["man, old", "man, young"], ["man, old", "man, young"], {"man, old": 0, "man, young": 1}),
        (["man, old"], ["man, young"], {}),
        (["man, old", "man, young"], ["man"], {}),
        (["man"], ["man, old", "man, young"], {}),
        (["man", "man, old"], ["man"], {"man": 0}),
        ([], ["man"], {}),
    ],
)
def test_class_names_match_whole_first_then_up_to_the_comma(names, wanted, found):
    assert match_class_names(names, wanted) == found
