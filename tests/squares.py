"""Datasets of squares, 64 x 64 px, and a config for them."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.ground_truth import load_image_gt


class Settings(Config):
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 16
    MAX_GT_INSTANCES = 4
    MINI_MASK_SHAPE = (14, 14)
    MAX_IMAGE_ERRORS = 2


def config(**values):
    made = Settings()
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Squares(Dataset):
    """Images of 64 x 64 px filled with their id, one square each; load_mask can be replaced."""

    def __init__(self, count=6, masks=None, class_ids=None, broken=()):
        super().__init__()
        self.add_class("squares", 1, "small")
        self.add_class("squares", 2, "big")
        for i in range(count):
            self.add_image("squares", i, path=f"{i}.png")
        self.prepare()
        self.masks, self.ids, self.broken = masks, class_ids, broken

    def load_image(self, image_id):
        if image_id in self.broken:
            raise ValueError(f"no such file {image_id}")
        return np.full((64, 64, 3), image_id, np.uint8)

    def load_mask(self, image_id):
        if self.masks is not None:
            return self.masks, self.ids
        mask = np.zeros((64, 64, 1), bool)
        mask[10:30, 20:50, 0] = True
        return mask, np.array([1])


def load(dataset, **options):
    settings = options.pop("config", config())
    return load_image_gt(dataset, settings, 0, rng=np.random.default_rng(0), **options)


class Shown(Squares):
    """Images that show their first mask, to see whether both move together."""

    def __init__(self, count=3):
        super().__init__()
        masks = np.zeros((64, 64, count), bool)
        for i in range(count):
            masks[12 + i % 5 : 50 - i % 7, 8 + i % 3 : 40 + i % 9, i] = True
        masks[20:30, 20:30, 0] = False  # no symmetry
        self.masks, self.ids = masks, np.ones(count, int)

    def load_image(self, image_id):
        return np.repeat(self.masks[:, :, :1], 3, axis=2).astype(np.uint8) * 200 + 20


def sizes(*shapes):
    """A dataset of images of these sizes with the square of `Squares`."""

    class Sized(Squares):
        def load_image(self, image_id):
            return np.full((*shapes[image_id], 3), 100 + image_id, np.uint8)

        def load_mask(self, image_id):
            mask = np.zeros((*shapes[image_id], 1), bool)
            mask[10:30, 20:50, 0] = True
            return mask, np.array([1])

    return Sized(len(shapes))


class BoxedSquares(Squares):
    """Boxes without masks: `load_mask` must not be called."""

    def __init__(self):
        super().__init__()
        self.boxes, self.ids = [[10, 20, 30, 50]], [1]

    def load_bbox(self, image_id):
        return self.boxes, self.ids

    def load_mask(self, image_id):
        pytest.fail("masks are not needed")


def box_only(**values):
    return config(USE_MASK=False, **values)


def take_over(image, masks, rng, class_ids, another):
    """Replace the image with another one."""
    other = another(rng)
    return (image, masks, class_ids) if other is None else other


take_over.pastes = True
