"""The truth of the annotation files, scored as detections: the evaluation, and each reader against its file.

The truth to score against is made here by hand from the files, with pycocotools and OpenCV alone.
"""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.data.masks import extract_bboxes
from mrcnn.evaluation.scores import coco_scores
from mrcnn.formats.coco import coco_results
from mrcnn.formats.open_dataset import open_dataset


def truth_of_coco(path):
    truth = json.loads(path.read_text())
    for annotation in truth["annotations"]:
        size = next(image for image in truth["images"] if image["id"] == annotation["image_id"])
        annotation["segmentation"] = as_rle(
            annotation["segmentation"], size["height"], size["width"]
        )
    return truth


def as_rle(segmentation, height, width):
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def truth_of_balloon(folder):
    """Polygons of a VIA 1.x file."""
    images, rles = [], []
    for key, entry in json.loads((folder / "via_region_data.json").read_text()).items():
        height, width = cv2.imread(str(folder / entry["filename"])).shape[:2]
        images.append({"id": key, "height": height, "width": width})
        for region in entry["regions"].values():
            shape = region["shape_attributes"]
            points = [
                v
                for xy in zip(shape["all_points_x"], shape["all_points_y"], strict=True)
                for v in xy
            ]
            rles.append((key, as_rle([points], height, width)))
    return truth_of(images, rles)


def truth_of_nuclei(folder):
    """A mask file an object."""
    images, rles = [], []
    for entry in sorted(folder.iterdir()):
        masks = [
            cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            for file in sorted((entry / "masks").glob("*.png"))
        ]
        images.append({"id": entry.name, "height": masks[0].shape[0], "width": masks[0].shape[1]})
        rles += [
            (entry.name, coco_mask.encode(np.asfortranarray(mask > 0, np.uint8))) for mask in masks
        ]
    return truth_of(images, rles)


def truth_of(images, rles):
    """COCO's form of objects of one class; image ids become whole numbers, as COCO wants them."""
    number = {image["id"]: i for i, image in enumerate(images)}
    images = [{**image, "id": number[image["id"]], "name": image["id"]} for image in images]
    annotations = [
        {
            "id": i,
            "image_id": number[image_id],
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": rle,
            "area": float(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
        }
        for i, (image_id, rle) in enumerate(rles, start=1)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }


def what_was_read(dataset, truth):
    """Every object that a reader gives, but crowds, as COCO's result entries with the ids of the truth."""
    number = {image.get("name", image["id"]): image["id"] for image in truth["images"]}
    results = []
    for i in dataset.image_ids:
        masks, class_ids = dataset.load_mask(i)
        keep = np.flatnonzero(class_ids > 0)
        info = dataset.image_info[i]
        own = {
            c: dataset.get_source_class_id(int(c), info["source"])
            for c in np.unique(class_ids[keep])
        }
        found = {
            "rois": extract_bboxes(masks[:, :, keep]),
            "class_ids": class_ids[keep],
            "scores": np.ones(len(keep)),
        }
        results += coco_results(
            number[info["id"]], {**found, "masks": masks[:, :, keep]}, own
        )
    return results


def what_the_file_says(truth):
    """The file's own boxes and masks as result entries."""
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [
        {**{k: a[k] for k in keys}, "score": 1.0} for a in truth["annotations"] if not a["iscrowd"]
    ]


def ap(truth, results, kind):
    return coco_scores(truth, results, kind).metrics["AP"]


SETS = {
    "coco_tiny/annotations/instances_train2017.json": (truth_of_coco, 1.0),
    "coco_tiny/annotations/instances_val2017.json": (truth_of_coco, 1.0),
    "balloon/train": (truth_of_balloon, 1.0),
    "balloon/val": (truth_of_balloon, 1.0),
    "nuclei/val": (truth_of_nuclei, 1.0),
    "nuclei/train": (
        truth_of_nuclei,
        0.99,
    ),  # two images hold more than the 100 detections that count
}


@pytest.mark.parametrize("name", SETS)
def test_the_truth_scores_one(shared, name):
    make_truth, least = SETS[name]
    path = shared / "data" / name
    truth = make_truth(path)
    own, read = what_the_file_says(truth), what_was_read(open_dataset(path), truth)
    assert len(read) == len(own) > 0
    for results in (own, read):
        assert round(ap(truth, results, "segm"), 3) >= least
    assert round(ap(truth, own, "bbox"), 3) >= least
    assert ap(truth, read, "bbox") >= 0.97  # boxes taken from masks
