"""Ground truth scored as detections: AP 1, of the annotation files and of what the readers return.

The expected ground truth is computed from the files with pycocotools and OpenCV only.
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


def ground_truth_of_coco(path):
    ground_truth = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        height, width = sizes[annotation["image_id"]]
        annotation["segmentation"] = as_rle(annotation["segmentation"], height, width)
    return ground_truth


def as_rle(segmentation, height, width):
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def ground_truth_of_balloon(folder):
    """Polygons of a VIA 1.x file."""
    images, rles = [], []
    for key, entry in json.loads((folder / "via_region_data.json").read_text()).items():
        height, width = cv2.imread(str(folder / entry["filename"])).shape[:2]
        images.append({"id": key, "height": height, "width": width})
        for region in entry["regions"].values():
            shape = region["shape_attributes"]
            points = []
            for x, y in zip(shape["all_points_x"], shape["all_points_y"], strict=True):
                points += [x, y]
            rles.append((key, as_rle([points], height, width)))
    return as_coco(images, rles)


def ground_truth_of_nuclei(folder):
    """One mask file per object."""
    images, rles = [], []
    for entry in sorted(folder.iterdir()):
        files = sorted((entry / "masks").glob("*.png"))
        masks = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
        height, width = masks[0].shape
        images.append({"id": entry.name, "height": height, "width": width})
        for mask in masks:
            rle = coco_mask.encode(np.asfortranarray(mask > 0, np.uint8))
            rles.append((entry.name, rle))
    return as_coco(images, rles)


def as_coco(images, rles):
    """Objects of one class in COCO's form, whose image ids are integers."""
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


def results_of_reader(dataset, ground_truth):
    """Every object that a reader returns, except crowds, as COCO's result entries."""
    number = {image.get("name", image["id"]): image["id"] for image in ground_truth["images"]}
    results = []
    for i in dataset.image_ids:
        masks, class_ids = dataset.load_mask(i)
        keep = np.flatnonzero(class_ids > 0)
        masks, class_ids = masks[:, :, keep], class_ids[keep]
        info = dataset.image_info[i]
        category_ids = {
            class_id: dataset.get_source_class_id(int(class_id), info["source"])
            for class_id in np.unique(class_ids)
        }
        detections = {
            "rois": extract_bboxes(masks),
            "class_ids": class_ids,
            "scores": np.ones(len(keep)),
            "masks": masks,
        }
        results += coco_results(number[info["id"]], detections, category_ids)
    return results


def results_of_file(ground_truth):
    """The file's own boxes and masks, except crowds, as COCO's result entries."""
    keys = ("image_id", "category_id", "bbox", "segmentation")
    results = []
    for annotation in ground_truth["annotations"]:
        if not annotation["iscrowd"]:
            results.append({**{key: annotation[key] for key in keys}, "score": 1.0})
    return results


def ap(ground_truth, results, kind):
    return coco_scores(ground_truth, results, kind).metrics["AP"]


SETS = {
    "coco_tiny/annotations/instances_train2017.json": (ground_truth_of_coco, 1.0),
    "coco_tiny/annotations/instances_val2017.json": (ground_truth_of_coco, 1.0),
    "balloon/train": (ground_truth_of_balloon, 1.0),
    "balloon/val": (ground_truth_of_balloon, 1.0),
    "nuclei/val": (ground_truth_of_nuclei, 1.0),
    # two images have more objects than the 100 detections that count
    "nuclei/train": (ground_truth_of_nuclei, 0.99),
}


@pytest.mark.parametrize("name", SETS)
def test_ground_truth_scores_one(shared, name):
    read_ground_truth, min_ap = SETS[name]
    path = shared / "data" / name
    ground_truth = read_ground_truth(path)
    of_file = results_of_file(ground_truth)
    of_reader = results_of_reader(open_dataset(path), ground_truth)
    assert len(of_reader) == len(of_file) > 0
    for results in (of_file, of_reader):
        assert round(ap(ground_truth, results, "segm"), 3) >= min_ap
    assert round(ap(ground_truth, of_file, "bbox"), 3) >= min_ap
    assert ap(ground_truth, of_reader, "bbox") >= 0.97  # boxes computed from masks
