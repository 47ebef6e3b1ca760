"""Small data sets and detectors whose metrics are known."""

import numpy as np

from mrcnn.data.dataset import Dataset


def masks_of(boxes, size=(20, 20)):
    """bool [H, W, N]: boxes (y1, x1, y2, x2), filled."""
    masks = np.zeros((*size, len(boxes)), bool)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, i] = True
    return masks


def scene(boxes, class_ids, scores=None, size=(20, 20)):
    """The arguments that compute_matches takes for truth, or with scores for predictions."""
    boxes = np.array(boxes, np.int32).reshape(-1, 4)
    parts = [boxes, np.array(class_ids, np.int32)]
    return [*parts, *([] if scores is None else [np.array(scores, float)]), masks_of(boxes, size)]


class Boxes(Dataset):
    """One 20 x 20 image per entry, each a list of (class id, box); a negative class id is a crowd."""

    def __init__(self, images, classes=("cat", "dog")):
        super().__init__()
        for i, name in enumerate(classes, start=1):
            self.add_class("test", i, name)
        for i, objects in enumerate(images):
            self.add_image("test", i, path=f"picture {i}", objects=objects)
        self.prepare()

    def load_image(self, image_id):
        return np.full((20, 20, 3), image_id, np.uint8)  # the image tells the detector which it is

    def load_mask(self, image_id):
        objects = self.image_info[image_id]["objects"]
        if not objects:
            return np.empty((0, 0, 0)), []
        return masks_of([box for _, box in objects]), [class_id for class_id, _ in objects]


def ground_truth_detector(dataset, masks=True):
    def detect(image):
        found, ids = dataset.load_mask(int(image[0, 0, 0]))
        if len(ids) == 0:
            found = np.zeros((20, 20, 0), bool)
        keep = np.flatnonzero(np.array(ids, int) > 0)
        boxes = [
            box
            for class_id, box in dataset.image_info[int(image[0, 0, 0])]["objects"]
            if class_id > 0
        ]
        result = {
            "rois": np.array(boxes, np.int32).reshape(-1, 4),
            "class_ids": np.array(ids, np.int32)[keep],
            "scores": np.ones(len(keep), np.float32),
        }
        return {**result, "masks": found[:, :, keep]} if masks else result

    return detect


def nothing(image):
    return {
        "rois": np.zeros((0, 4), np.int32),
        "class_ids": np.zeros(0, np.int32),
        "scores": np.zeros(0, np.float32),
        "masks": np.zeros((*image.shape[:2], 0), bool),
    }


CAT, DOG = (1, (0, 0, 10, 10)), (2, (10, 10, 20, 20))


class Torn(Boxes):
    """In the images of `torn_images` and `torn_masks` the pixels and the annotations cannot be read."""

    torn_images, torn_masks = (1,), (2,)

    def load_image(self, image_id):
        if image_id in self.torn_images:
            raise ValueError("The image must be readable.")
        return super().load_image(image_id)

    def load_mask(self, image_id):
        if image_id in self.torn_masks:
            raise KeyError("masks")
        return super().load_mask(image_id)
