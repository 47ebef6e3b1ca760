"""Splits: groups by name, classes in both parts, the same split for the same seed."""

from collections import Counter

import numpy as np
import pytest
from squares import Squares

from mrcnn.data.joined import JoinedDataset
from mrcnn.data.shapes import ShapesDataset
from mrcnn.data.split import (
    Split,
    _move_missing,
    divide,
    draw_split,
    groups_by_name,
    image_names,
    is_useful,
    subset,
)


class Named(Squares):
    """Images of these paths, each with the classes of `class_ids`."""

    def __init__(self, paths, class_ids=None):
        super().__init__(0)
        for path in paths:
            self.add_image("squares", path, path=path)
        self.prepare()
        self.per_image = class_ids or [[1]] * len(paths)

    def load_class_ids(self, image_id):
        return np.array(self.per_image[image_id], int)


def test_image_names_are_paths_below_the_common_folder():
    assert image_names(Named([])) == []
    assert image_names(Named(["a/b/1.png", "a/b/2.png"])) == ["1.png", "2.png"]
    assert image_names(Named(["a/b/1.png", "a/c/1.png"])) == ["b/1.png", "c/1.png"]
    assert image_names(ShapesDataset(2)) == ["0", "1"]  # no files


def test_subset_has_all_classes_and_loads_its_images():
    dataset = ShapesDataset(5)
    part = subset(dataset, [3, 1])
    assert part.class_names == dataset.class_names and len(part.image_ids) == 2
    np.testing.assert_array_equal(part.load_image(0), dataset.load_image(3))
    np.testing.assert_array_equal(part.load_mask(1)[0], dataset.load_mask(1)[0])
    assert len(dataset.image_ids) == 5


def test_subset_of_joined_datasets_loads_from_their_own():
    whole = JoinedDataset([ShapesDataset(2), ShapesDataset(3, seed=1)])
    part = subset(whole, [4, 0])
    for i, image_id in enumerate((4, 0)):
        np.testing.assert_array_equal(part.load_image(i), whole.load_image(image_id))
        np.testing.assert_array_equal(part.load_mask(i)[0], whole.load_mask(image_id)[0])


# --- Groups ---


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (["film1_0001.jpg", "film1_0002.jpg"], "film1"),
        (["slide_tile3.png", "slide_tile12.png"], "slide"),
        (["slide_x0_y512.png", "slide_x1024_y0.png"], "slide"),
        (["a b-frame-12.png", "a b-frame-3.png"], "a b"),
        (["film1/0001.jpg", "film1/frame0002.jpg", "film1/IMG_3.jpg"], "film1"),
        (["x_1_jpg.rf.0a1b.jpg", "x_1_jpg.rf.99ff.jpg", "x_2.jpg"], "x"),
        (["IMG_0001.jpg", "0002.jpg", "DSC0003.jpg"], "."),
    ],
)
def test_names_of_one_group(names, group):
    assert groups_by_name(names) == [group] * len(names)


@pytest.mark.parametrize(
    "name",
    ["01d44a26f6680c42.png", "24631331976_defa3bb61f_k.jpg", "cat.png", "b52.png", "a-b.png"],
)
def test_names_without_a_number_are_their_own_group(name):
    assert groups_by_name([name, "other.png"])[0] in (name.rsplit(".", 1)[0], ".")


def test_groups_are_useful_if_there_are_several_of_moderate_size():
    one = {1}
    assert is_useful([str(i // 2) for i in range(10)], [one] * 10)  # 5 groups of 2
    assert not is_useful([str(i // 2) for i in range(8)], [one] * 8)  # 4 groups
    assert not is_useful([".", *".......", "a", "b", "c", "d"], [one] * 12)  # one with 8 of 12


def test_groups_that_are_classes_are_not_useful():
    """Oxford's pets: Abyssinian_1, Abyssinian_2, ...; a class cannot be in both parts."""
    groups = [str(i // 4) for i in range(24)]
    assert not is_useful(groups, [{1 + i // 4} for i in range(24)])
    assert is_useful(groups, [{1 + i % 2} for i in range(24)])


# --- Draws ---


def test_share_seed_and_every_image_once():
    dataset = Named([f"{name}.png" for name in "abcdefghijklmnopqrst"])
    split = draw_split(dataset, 0.8)
    assert (len(split.train), len(split.val), split.groups) == (16, 4, None)  # of 20
    assert sorted(split.train + split.val) == image_names(dataset)
    assert draw_split(dataset, 0.8) == split
    assert draw_split(dataset, 0.8, seed=1) != split


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_no_part_is_empty(share):
    split = draw_split(Named(["a.png", "b.png", "c.png"]), share)
    assert split.train and split.val


def test_groups_stay_together():
    paths = [f"film{i % 8}_{i:03}.png" for i in range(80)]
    split = draw_split(Named(paths), 0.75)
    assert split.groups == 8 and len(split.val) == 20  # 2 films of 10
    films = [{name.split("_")[0] for name in names} for names in split[:2]]
    assert not films[0] & films[1]
    by_image = draw_split(Named(paths), 0.75, by_names=False)
    assert by_image.groups is None and len(by_image.val) == 20
    assert len({name.split("_")[0] for name in by_image.val}) > 2


def test_copies_of_one_image_stay_together_in_any_case():
    paths = [f"{'abcdefgh'[i // 3]}q_jpg.rf.{i:x}.jpg" for i in range(24)]
    split = draw_split(Named(paths), 0.75, by_names=False)
    assert not {name[0] for name in split.train} & {name[0] for name in split.val}


def test_every_class_is_in_both_parts():
    """Class 2 has two images of 40, class 1 the others; two images have no objects."""
    for seed in range(20):
        ids = [[2], [1, 2], [], [], *[[1]] * 36]
        names = [f"{i}x.png" for i in range(40)]
        split = draw_split(Named(names, ids), 0.8, seed)
        for part in split[:2]:
            found = {label for name in part for label in ids[names.index(name)]}
            assert found == {1, 2}
            assert {"2x.png", "3x.png"} & set(part)
        assert 6 <= len(split.val) <= 10


def test_classes_that_share_images_are_in_both_parts_too():
    """Classes 1 to 6, each in two images of four, in all pairs: 1 and 2 decide for 3 and 4."""
    ids = [[1, 3], [1, 4], [2, 3], [2, 4], [5], [5], [6], [6]]
    names = [f"{i}x.png" for i in range(8)]
    for seed in range(30):
        split = draw_split(Named(names, ids), 0.5, seed)
        for part in split[:2]:
            found = {label for name in part for label in ids[names.index(name)]}
            assert found >= {1, 2, 5, 6}
            assert len(found) >= 5


def test_missing_class_is_moved_if_another_image_keeps_its_others():
    """Class 3 is in images a and b only, both drawn to train; a can go, for c has class 1 too."""
    labels_of = {"a": Counter({1: 1, 3: 1}), "b": Counter({2: 1, 3: 1}), "c": Counter({1: 1})}
    labels_of |= {"d": Counter({1: 1, 2: 1})}
    chosen = {"d"}
    _move_missing(chosen, labels_of)
    assert chosen == {"a", "d"}


def test_class_of_one_image_is_trained_on():
    ids = [[2], *[[1]] * 9]
    split = draw_split(Named([f"{i}x.png" for i in range(10)], ids), 0.5)
    assert "0x.png" in split.train


def test_divide_takes_the_listed_images_and_refuses_other_data():
    dataset = Named(["a.png", "b.png", "c.png"])
    train, val = divide(dataset, Split(["c.png"], ["a.png"]))
    assert [info["path"] for info in train.image_info] == ["c.png"]
    assert [info["path"] for info in val.image_info] == ["a.png"]
    with pytest.raises(ValueError, match="no image of its 1 for val, such as z.png; .* a.png"):
        divide(dataset, Split(["c.png"], ["z.png"]))
