"""The order of the images: epochs, repeat factors, groups of one orientation."""

import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mrcnn.data.dataset import Dataset
from mrcnn.data.image_order import ImageOrder, class_ids_per_image, is_tall, repeat_factors


def first(order, count):
    return [int(order[i]) for i in range(count)]


class Listed(Dataset):
    """Images with these sizes (height, width) and class ids."""

    def __init__(self, sizes=(), class_ids=(), **info):
        super().__init__()
        for class_id in (1, 2, 3):
            self.add_class("listed", class_id, f"class {class_id}")
        self.ids, self.sizes, self.loaded = class_ids, sizes, []
        for i in range(max(len(sizes), len(class_ids))):
            self.add_image("listed", i, path=None, **info)
        self.prepare()

    def load_image(self, image_id):
        self.loaded.append(image_id)
        if self.sizes[image_id] is None:
            raise ValueError("cannot be read")
        return np.zeros((*self.sizes[image_id], 3), np.uint8)

    def load_mask(self, image_id):
        self.loaded.append(image_id)
        if self.ids[image_id] is None:
            raise ValueError("cannot be read")
        return np.ones((4, 4, len(self.ids[image_id])), bool), np.array(self.ids[image_id])


# --- Epochs -----------------------------------------------------------------------------------


def test_each_epoch_shows_each_image_once_in_a_new_order():
    order = ImageOrder([5, 6, 7, 8], seed=1)
    passes = [first(order, 40)[4 * i : 4 * i + 4] for i in range(10)]
    assert (
        all(sorted(ids) == [5, 6, 7, 8] for ids in passes)
        and len({tuple(ids) for ids in passes}) > 3
    )
    # the order of a plain permutation
    assert passes[2] == np.random.default_rng((1, 2)).permutation([5, 6, 7, 8]).tolist()
    assert first(ImageOrder([5, 6, 7], seed=1, shuffle=False), 7) == [5, 6, 7, 5, 6, 7, 5]
    assert order.length == 4


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.booleans(), st.booleans())
def test_order_does_not_depend_on_the_order_of_access(positions, repeats, tall):
    def made():
        return ImageOrder(
            range(7),
            3,
            repeats=np.array([1, 1.5, 2, 1, 1.1, 1, 3]) if repeats else None,
            tall=np.arange(7) % 3 == 0 if tall else None,
            batch_size=2,
        )

    forward, random_access = first(made(), 61), made()
    assert [int(random_access[i]) for i in positions] == [forward[i] for i in positions]


# --- Repeat factors ---------------------------------------------------------------------------


def test_repeat_factors():
    # Of 4 images class 1 is in 4 and class 2 in 1: with 0.64, sqrt(0.64 / 0.25) = 1.6.
    factors = repeat_factors([[1], [1, 1], [2, 1], [1, -2]], 0.64)
    assert factors.tolist() == pytest.approx([1, 1, 1.6, 1])
    assert repeat_factors([[1], [2], [], []], 1.0).tolist() == [2, 2, 1, 1]
    assert repeat_factors([[], []], 0.5).tolist() == [1, 1]
    assert repeat_factors([], 0.5).tolist() == []
    assert repeat_factors([[1], [1, 2]], 0).tolist() == [1, 1]


def test_epochs_repeat_images_by_their_factors():
    repeats = np.array([1, 2, 1.25])
    order = ImageOrder([10, 11, 12], seed=0, repeats=repeats)
    assert order.length == 4.25
    passes, position = [], 0
    for turn in range(400):
        count = int(order._counts(turn).sum())
        passes.append(Counter(first_from(order, position, count)))
        position += count
    assert all(counts[10] == 1 and counts[11] == 2 and counts[12] in (1, 2) for counts in passes)
    twice = sum(counts[12] == 2 for counts in passes)
    assert 70 < twice < 130  # a quarter of 400, standard deviation 9


def first_from(order, start, count):
    return [int(order[i]) for i in range(start, start + count)]


def test_class_ids_are_read_once_and_logged(caplog):
    dataset = Listed(class_ids=[[1, 2], None, [-3], []])
    with caplog.at_level(logging.INFO, "mrcnn"):
        found = [ids.tolist() for ids in class_ids_per_image(dataset)]
        assert found == [[1, 2], [], [-3], []]
        class_ids_per_image(dataset)
    assert dataset.loaded == [0, 1, 2, 3]
    assert [
        line for line in caplog.messages if "annotations of 4 images" in line
    ] == caplog.messages
    dataset.add_image("listed", 4, path=None)
    dataset.ids.append([2])
    dataset.prepare()
    assert len(class_ids_per_image(dataset)) == 5


# --- Groups -----------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=25), st.integers(1, 4), st.integers(0, 9))
def test_groups_show_each_image_once_and_mix_at_the_end_of_an_epoch_only(tall, batch_size, seed):
    tall = np.array(tall)
    count = len(tall)
    order = ImageOrder(range(count), seed, tall=tall, batch_size=batch_size)
    found = first(order, 5 * count)
    for turn in range(5):
        assert sorted(found[turn * count : (turn + 1) * count]) == list(range(count))
    for start in range(0, 5 * count - batch_size + 1, batch_size):
        kinds = set(tall[found[start : start + batch_size]].tolist())
        end = -(-(start + 1) // count) * count  # of the epoch in which the batch begins
        assert len(kinds) == 1 or end - start < 2 * batch_size


def test_order_of_groups():
    order = ImageOrder(
        range(6), 0, shuffle=False, tall=np.array([0, 1, 0, 1, 1, 0], bool), batch_size=2
    )
    assert first(order, 6) == [0, 2, 1, 3, 5, 4]
    three = ImageOrder(range(3), 0, shuffle=False, tall=np.array([0, 1, 0], bool), batch_size=2)
    # The second epoch begins inside a batch: its first image stays in front.
    assert first(three, 6) == [0, 2, 1, 0, 2, 1]


def test_which_images_are_tall(tmp_path):
    assert is_tall(Listed()).tolist() == []
    by_pixels = Listed([(5, 4), (4, 5), (4, 4), None])
    assert is_tall(by_pixels).tolist() == [True, False, False, False]
    by_numbers = Listed([(4, 5)], height=9, width=8)
    assert is_tall(by_numbers).tolist() == [True] and by_numbers.loaded == []
    by_header = Listed([(4, 5)])
    Image.new("RGB", (8, 9)).save(tmp_path / "tall.png")
    by_header.image_info[0]["path"] = tmp_path / "tall.png"
    assert is_tall(by_header).tolist() == [True] and by_header.loaded == []
