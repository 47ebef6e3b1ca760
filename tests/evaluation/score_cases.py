"""COCO ground truth and results whose metrics are known."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 40  # of every image, pixels


def rle(box):
    """Return the RLE of a filled box [x, y, width, height]."""
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    x, y, width, height = box
    mask[y : y + height, x : x + width] = 1
    code = coco_mask.encode(mask)
    return {"size": code["size"], "counts": code["counts"].decode()}


def ground_truth_of(*images, classes=2, difficult=()):
    """Return COCO ground truth of images: lists of (class id, box); a negative id is a crowd."""
    annotations = []
    for image, objects in enumerate(images):
        for class_id, box in objects:
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": abs(class_id),
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(class_id < 0),
                "segmentation": rle(box),
            }
            annotations.append({**entry, "difficult": int(entry["id"] in difficult)})
    return {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
    }


def results_of(*found):
    """Return COCO result entries of (image id, class id, box, score)."""
    return [
        {
            "image_id": i,
            "category_id": c,
            "bbox": list(map(float, b)),
            "score": s,
            "segmentation": rle(b),
        }
        for i, c, b, s in found
    ]


A, B, C = (0, 0, 10, 10), (20, 0, 10, 10), (0, 20, 10, 10)

HALF = (0, 0, 10, 5)  # IoU 50 / 100 with A

LESS = (0, 0, 10, 4)  # IoU 40 / 100 with A

kinds = pytest.mark.parametrize("kind", ["bbox", "segm"])


def pycocotools_evaluation(ground_truth, results, kind):
    """Run pycocotools as its own demo does."""
    left_out = {"bbox": "segmentation", "segm": "bbox"}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(ground_truth))
        coco.createIndex()
        evaluation = COCOeval(
            coco,
            coco.loadRes([{k: v for k, v in r.items() if k != left_out} for r in results]),
            kind,
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def random_set(seed, images=12, classes=3):
    """Return random ground truth and results.

    Some objects are crowds, some images empty. Detections are shifted, of another class, of equal
    scores, or without an object.
    """
    rng = np.random.default_rng(seed)

    def box():
        x, y = rng.integers(0, 25, 2)
        return int(x), int(y), *(int(side) for side in rng.integers(2, 15, 2))

    def class_id():
        return int(rng.integers(1, classes + 1))

    objects, found = [], []
    for image in range(images):
        in_image = []
        for _ in range(rng.integers(0, 6)):
            crowd = rng.random() < 0.1
            in_image.append((-class_id() if crowd else class_id(), box()))
        objects.append(in_image)
        for object_class, (x, y, width, height) in in_image:
            dx, dy = rng.integers(0, 2, 2)
            detected_class = abs(object_class) if rng.random() < 0.8 else class_id()
            detected_box = (int(x + dx), int(y + dy), width, height)
            found.append((image, detected_class, detected_box, round(float(rng.random()), 1)))
        for _ in range(2):
            found.append((image, class_id(), box(), float(rng.random())))
    return ground_truth_of(*objects, classes=classes), results_of(*found)
