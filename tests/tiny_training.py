"""Helpers of the tests that train the tiny network."""

import numpy as np
import pytest
import tiny
from tiny import Squares

from mrcnn.config import Config

PARTS = (*Config().loss_names(), "weight_decay")  # what adds up to the loss of Mask R-CNN


def parts_of(model):
    """What adds up to the loss of a model, the loss of classes first and of boxes second."""
    return (*model.config.loss_names(), "weight_decay")


def build(folder, seed=0, network="mask_rcnn", **values):
    """A model in training mode with random weights."""
    return tiny.build(network, "training", folder, seed, **values)


def values(model):
    """`{path: value}` of all weights."""
    return {weight.path: weight.numpy() for weight in model.keras_model.weights}


def moved_since(before, model):
    """Paths of the weights that differ from the earlier `values`."""
    return {
        path for path, value in values(model).items() if not np.array_equal(value, before[path])
    }


class Various(Squares):
    """The squares in images of given `(height, width)`, with any number of channels."""

    def __init__(self, *shapes, channels=3):
        super().__init__(count=len(shapes))
        self.shapes, self.channels = shapes, channels

    def load_image(self, image_id):
        image = np.full((*self.shapes[image_id], self.channels), 128, np.uint8)
        image[self.load_mask(image_id)[0][:, :, 0]] = 250 if image_id % 2 else 20
        return image

    def load_mask(self, image_id):
        mask = np.zeros((*self.shapes[image_id], 1), bool)
        mask[self._square(image_id)] = True
        return mask, np.array([1 if image_id % 2 else 2], np.int32)


ODD = (64, 64), (70, 100), (100, 70), (64, 129), (120, 64)  # become 64, 128 and 192 in pad64


class BoxedSquares(Squares):
    """The squares with boxes only; reading a mask fails the test."""

    def load_bbox(self, image_id):
        rows, columns = self._square(image_id)
        return [[rows.start, columns.start, rows.stop, columns.stop]], [1 if image_id % 2 else 2]

    def load_mask(self, image_id):
        pytest.fail("masks are not needed")
