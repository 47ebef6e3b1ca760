"""Small datasets and detectors whose metrics are known."""

import numpy as np

from mrcnn.data.dataset import Dataset

CAT = (1, (0, 0, 10, 10))
DOG = (2, (10, 10, 20, 20))


def masks_of(boxes, size=(20, 20)):
    """Return masks [H, W, N] of filled boxes (y1, x1, y2, x2)."""
    masks = np.zeros((*size, len(boxes)), bool)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, i] = True
    return masks


def scene(boxes, class_ids, scores=None, size=(20, 20)):
    """Return the ground truth or, with scores, the predictions that compute_matches takes."""
    boxes = np.array(boxes, np.int32).reshape(-1, 4)
    class_ids = np.array(class_ids, np.int32)
    masks = masks_of(boxes, size)
    if scores is None:
        return [boxes, class_ids, masks]
    return [boxes, class_ids, np.array(scores, float), masks]


class Boxes(Dataset):
    """One 20 x 20 image per entry, each a list of (class id, box); a negative id is a crowd."""

    def __init__(self, images, classes=("cat", "dog")):
        super().__init__()
        for i, name in enumerate(classes, start=1):
            self.add_class("test", i, name)
        for i, objects in enumerate(images):
            self.add_image("test", i, path=f"{i}.png", objects=objects)
        self.prepare()

    def load_image(self, image_id):
        # The pixels are the image id, so that a detector knows which image it gets.
        return np.full((20, 20, 3), image_id, np.uint8)

    def load_mask(self, image_id):
        objects = self.image_info[image_id]["objects"]
        if not objects:
            return np.empty((0, 0, 0)), []
        return masks_of([box for _, box in objects]), [class_id for class_id, _ in objects]


class OwnBoxes(Boxes):
    """A dataset without masks; its boxes differ by half a pixel from those of `Boxes`."""

    def load_bbox(self, image_id):
        objects = self.image_info[image_id]["objects"]
        return [np.add(box, 0.5) for _, box in objects], [class_id for class_id, _ in objects]

    load_mask = Dataset.load_mask


class Unreadable(Boxes):
    """A dataset in which the pixels of some images, and the masks of others, raise errors."""

    unreadable_images = (1,)
    unreadable_masks = (2,)

    def load_image(self, image_id):
        if image_id in self.unreadable_images:
            raise ValueError("The image must be readable.")
        return super().load_image(image_id)

    def load_mask(self, image_id):
        if image_id in self.unreadable_masks:
            raise KeyError("masks")
        return super().load_mask(image_id)


def ground_truth_detector(dataset, masks=True):
    """Return a detector that detects the ground truth, without crowds, with score 1."""

    def detect(image):
        image_id = int(image[0, 0, 0])
        objects = [entry for entry in dataset.image_info[image_id]["objects"] if entry[0] > 0]
        boxes = [box for _, box in objects]
        result = {
            "rois": np.array(boxes, np.int32).reshape(-1, 4),
            "class_ids": np.array([class_id for class_id, _ in objects], np.int32),
            "scores": np.ones(len(objects), np.float32),
        }
        if masks:
            result["masks"] = masks_of(boxes)
        return result

    return detect


def box_detector(dataset):
    """Return a detector that detects the boxes of `load_bbox` with score 1."""

    def detect(image):
        boxes, class_ids = dataset.load_bbox(int(image[0, 0, 0]))
        return {
            "rois": np.array(boxes).reshape(-1, 4),
            "class_ids": np.array(class_ids, int),
            "scores": np.ones(len(class_ids)),
        }

    return detect


def no_detections(image):
    """Detect no object."""
    return {
        "rois": np.zeros((0, 4), np.int32),
        "class_ids": np.zeros(0, np.int32),
        "scores": np.zeros(0, np.float32),
        "masks": np.zeros((*image.shape[:2], 0), bool),
    }
