"""Datasets with known faults, and a config for them."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset

GREY = np.full((64, 64, 3), 128, np.uint8)


class Small(Config):
    """Images of 64 x 64 px are not resized; squares of 16 px around multiples of 4 are anchors."""

    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (16, 24, 32, 48, 64)
    MAX_GT_INSTANCES = 3

    def __init__(self, **values):
        for name, value in values.items():
            setattr(self, name, value)
        super().__init__()


class Hand(Dataset):
    """Images given as (image, masks, class ids); an exception as an entry is raised."""

    def __init__(self, *entries, classes=("cat", "dog")):
        super().__init__()
        self.entries = entries
        for i, name in enumerate(classes, start=1):
            self.add_class("hand", i, name)
        for i in range(len(entries)):
            self.add_image("hand", f"no{i}", path=None)
        self.prepare()

    def load_image(self, image_id):
        return or_raise(self.entries[image_id][0])

    def load_mask(self, image_id):
        return or_raise(self.entries[image_id][1]), np.array(or_raise(self.entries[image_id][2]))


def or_raise(value):
    if isinstance(value, Exception):
        raise value
    return value


def rectangles(*corners, size=(64, 64)):
    """Masks [H, W, N] of rectangles (y1, x1, y2, x2)."""
    masks = np.zeros((*size, len(corners)), bool)
    for i, (y1, x1, y2, x2) in enumerate(corners):
        masks[y1:y2, x1:x2, i] = True
    return masks


GOOD = (GREY, rectangles((8, 8, 24, 24), (32, 32, 48, 48)), [1, 2])  # two squares of 16 px


def kinds(report):
    """The kinds of the findings except anchors."""
    return [finding.kind for finding in report.findings if finding.kind != "anchors"]


ONE = rectangles((8, 8, 24, 24))


NOTHING = (GREY, np.zeros((64, 64, 0)), [])


class HandBoxes(Hand):
    """Images given as (image, boxes, class ids)."""

    def load_bbox(self, image_id):
        return super().load_mask(image_id)

    def load_mask(self, image_id):
        pytest.fail("masks are not needed")
