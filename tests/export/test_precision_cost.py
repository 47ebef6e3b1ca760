"""The cost of a precision in average precision, with files that find all, half or nothing."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.shapes import ShapesDataset
from mrcnn.export.precision_cost import precision_cost
from mrcnn.export.settings import Shape


class Perfect:
    """A model that finds the ground truth of a dataset, as boxes."""

    def __init__(self, dataset):
        self.config = Config()
        self.config.USE_MASK, self.config.DETECTION_MIN_CONFIDENCE = False, 0.05
        self.found = {}
        for image_id in dataset.image_ids:
            masks, class_ids = dataset.load_mask(image_id)
            boxes = [box_of(masks[:, :, i]) for i in range(len(class_ids))]
            found = {"rois": np.int32(boxes), "class_ids": class_ids, "scores": np.ones(len(boxes))}
            self.found[dataset.load_image(image_id).tobytes()] = found

    def detect(self, images, masks):
        return [dict(self.found[images[0].tobytes()])]

    def run(self, batches, share=1.0):
        """The outputs of a file that finds this share of each image's objects."""
        outputs = []
        for batch in batches:
            found = self.found[batch[0].tobytes()]
            names = {"rois": "boxes", "class_ids": "class_ids", "scores": "scores"}
            values = {name: found[key][None] for key, name in names.items()}
            count = round(share * len(found["scores"]))
            outputs.append({**values, "count": np.array([count])})
        return outputs


def box_of(mask):
    ys, xs = np.nonzero(mask)
    return [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]


@pytest.fixture(scope="module")
def dataset():
    return ShapesDataset(4, (96, 96))


def test_equal_files_cost_nothing(dataset):
    model = Perfect(dataset)
    cost = precision_cost(model, model.run, dataset, Shape(1))
    assert (cost.images, cost.loss()) == (4, 0.0)
    assert cost.expected == cost.found == {"box AP": pytest.approx(1.0)}


def test_file_that_finds_nothing_loses_all(dataset):
    model = Perfect(dataset)
    cost = precision_cost(model, lambda batches: model.run(batches, 0.0), dataset, Shape(1))
    assert cost.loss() == pytest.approx(1.0)


def test_file_for_images_of_another_size_is_not_measured(dataset):
    model = Perfect(dataset)
    assert precision_cost(model, model.run, dataset, Shape(1, 100, 96)) is None
    assert precision_cost(model, model.run, dataset, Shape(2, 96, 96)).images == 4
