"""Several datasets as one: classes, ids and boxes of its sources."""

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    annotation,
    box_shape,
    coco,
    labelme,
    names_of,
    write_coco,
    write_image,
)

from mrcnn.data.dataset import Dataset, has_boxes_only, overrides
from mrcnn.data.joined import JoinedDataset
from mrcnn.data.shapes import ShapesDataset
from mrcnn.formats.coco import CocoDataset
from mrcnn.formats.labelme import LabelmeDataset


def two_sets(tmp_path):
    """COCO's cat 18 and dog 90, then labelme's bird 1 and cat 2."""
    write_image(tmp_path / "coco" / "a.png")
    write_image(tmp_path / "coco" / "b.png")
    one = CocoDataset(write_coco(tmp_path / "coco", coco()))
    return one, LabelmeDataset(labelme(tmp_path / "lm", box_shape("cat"), box_shape("bird", y1=0)))


def test_joined_datasets_share_classes_by_name(tmp_path):
    one, two = two_sets(tmp_path)
    dataset = JoinedDataset([one, two])
    assert dataset.class_names == ["BG", "cat", "dog", "bird"] and dataset.num_images == 3
    assert [info["id"] for info in dataset.image_info] == [7, 9, "a"]
    assert names_of(dataset, 2) == ["cat", "bird"] and dataset.load_mask(2)[1].tolist() == [1, 3]
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [2, 1, -1] and class_ids.dtype == np.int32  # a crowd is kept
    assert [dataset.load_class_ids(i).tolist() for i in dataset.image_ids] == [
        [2, 1, -1],
        [],
        [1, 3],
    ]
    np.testing.assert_array_equal(masks, one.load_mask(0)[0])
    assert dataset.load_mask(1)[0].shape == (HEIGHT, WIDTH, 0)
    np.testing.assert_array_equal(dataset.load_image(2), two.load_image(0))
    assert dataset.image_reference(2) == two.image_reference(0)


def test_images_of_joined_datasets_have_the_active_classes_of_their_source(tmp_path):
    dataset = JoinedDataset(two_sets(tmp_path))
    known = [dataset.source_class_ids[info["source"]] for info in dataset.image_info]
    assert known == [[0, 1, 2], [0, 1, 2], [0, 1, 3]]
    dataset.prepare()  # as old scripts do: no effect
    assert [dataset.source_class_ids[info["source"]] for info in dataset.image_info] == known


def test_joined_datasets_keep_the_ids_of_their_sources(tmp_path):
    dataset = JoinedDataset(two_sets(tmp_path))
    assert dataset.map_source_class_id("coco.18") == dataset.map_source_class_id("labelme.2") == 1
    assert (dataset.get_source_class_id(1, "coco"), dataset.get_source_class_id(1, "labelme")) == (
        18,
        2,
    )
    with pytest.raises(ValueError, match="must belong to the source.*bird"):
        dataset.get_source_class_id(3, "coco")
    assert dataset.image_from_source_map["coco.9"] == 1


def test_joined_datasets_of_one_format_get_numbered_sources(tmp_path):
    one = CocoDataset(write_coco(tmp_path / "1", coco()), class_ids=[18])
    two = CocoDataset(write_coco(tmp_path / "2", coco()))
    dataset = JoinedDataset([one, two, JoinedDataset([two])])
    assert dataset.class_names == ["BG", "cat", "dog"] and dataset.num_images == 6
    assert dataset.source_class_ids["coco"] == [0, 1]
    assert dataset.source_class_ids["coco_2"] == dataset.source_class_ids["coco_3"] == [0, 1, 2]
    assert dataset.map_source_class_id("coco_2.90") == 2 and dataset.load_mask(0)[1].tolist() == [
        1,
        -1,
    ]
    assert [info["source"] for info in dataset.image_info] == ["coco"] * 2 + ["coco_2"] * 2 + [
        "coco_3"
    ] * 2


def test_joined_datasets_match_whole_names_first(tmp_path):
    def one(name, *class_names):
        write_image(tmp_path / name / "a.png")
        write_image(tmp_path / name / "b.png")
        categories = [{"id": i, "name": class_name} for i, class_name in enumerate(class_names)]
        entries = [annotation(i, i, [[4, 3, 14, 3, 14, 8]]) for i in range(len(class_names))]
        return CocoDataset(
            write_coco(tmp_path / name, coco(categories=categories, annotations=entries))
        )

    stands, sits = one("1", "person, standing", "dog, any"), one("2", "person, sitting", "dog")
    assert stands.class_names == ["BG", "person", "dog"] and sits.class_names == [
        "BG",
        "person",
        "dog",
    ]
    joined = JoinedDataset([stands, sits])
    assert joined.class_names == ["BG", "person, standing", "dog", "person, sitting"]
    assert joined.load_mask(2)[1].tolist() == [3, 2]


def test_joined_datasets_return_annotated_boxes(tmp_path):
    for name in ("1/a.png", "1/b.png", "2/a.png"):
        write_image(tmp_path / name)
    box = annotation(1, 90, [], bbox=[5, 6, 20, 22], area=440)
    outline = annotation(2, 90, [[4, 3, 14, 3, 14, 8, 4, 8]], bbox=[4.5, 3, 9.5, 5], area=47.5)
    one = CocoDataset(write_coco(tmp_path / "1", coco(annotations=[box])))
    two = CocoDataset(write_coco(tmp_path / "2", coco(annotations=[outline])))  # b.png is missing
    joined = JoinedDataset([one, two])
    assert joined.left_out == two.left_out and len(joined.left_out) == 1
    assert joined.annotated_boxes(2) == [{"bbox": [4.5, 3, 9.5, 5], "area": 47.5}]
    assert has_boxes_only(JoinedDataset([one, one])) and not has_boxes_only(joined)
    assert joined.load_bbox(0)[0].tolist() == [[6, 5, 28, 25]] and joined.load_bbox(2)[
        0
    ].tolist() == [[3, 4, 8, 14]]


def test_joined_datasets_must_be_prepared():
    with pytest.raises(ValueError, match=r"Received: none. Try dataset.prepare\(\)"):
        JoinedDataset([])
    with pytest.raises(ValueError, match=r"Received: \['Dataset'\]"):
        JoinedDataset([ShapesDataset(1), Dataset()])


def test_joined_datasets_reach_the_network_with_their_active_classes(tmp_path):
    from mrcnn import config
    from mrcnn.data import ground_truth

    class JoinedConfig(config.Config):
        NAME, NUM_CLASSES, IMAGE_MIN_DIM, IMAGE_MAX_DIM = "joined", 4, 64, 64

    dataset = JoinedDataset(two_sets(tmp_path))
    for image_id, active in ((0, [1, 1, 1, 0]), (2, [1, 1, 0, 1])):
        meta = ground_truth.load_image_gt(dataset, JoinedConfig(), image_id)[1]
        assert meta[12:].tolist() == active


def test_joined_datasets_return_boxes_if_one_has_its_own(tmp_path):
    one, two = two_sets(tmp_path)
    assert not overrides(JoinedDataset([one, two]), "load_bbox")
    two.load_bbox = lambda image_id: (np.array([[1.0, 2, 3, 4]]), np.array([-2]))
    joined = JoinedDataset([one, two])
    assert overrides(joined, "load_bbox")
    found, class_ids = joined.load_bbox(2)  # class 2 of labelme is the cat, class 1 here
    assert found.tolist() == [[1, 2, 3, 4]]
    assert abs(class_ids[0]) == joined.class_names.index(two.class_names[2]) and class_ids[0] < 0
    np.testing.assert_array_equal(joined.load_bbox(0)[0], one.load_bbox(0)[0])
