"""A dataset of COCO's format with its evaluation, as a script and as a module that others import.

python coco_style.py --dataset=FOLDER --model=coco.h5
"""

import argparse
import os
import time

import numpy as np
from pycocotools import mask as maskUtils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small import Config

from mrcnn import model as modellib
from mrcnn import utils


class CocoConfig(Config):
    NAME = "coco"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 80


class CocoDataset(utils.Dataset):
    def load_coco(self, dataset_dir, class_ids=None, return_coco=False):
        coco = COCO(os.path.join(dataset_dir, "instances.json"))
        if not class_ids:
            class_ids = sorted(coco.getCatIds())
        image_ids = list(coco.imgs.keys())
        for i in class_ids:
            self.add_class("coco", i, coco.loadCats(i)[0]["name"])
        for i in image_ids:
            self.add_image(
                "coco",
                image_id=i,
                path=os.path.join(dataset_dir, coco.imgs[i]["file_name"]),
                width=coco.imgs[i]["width"],
                height=coco.imgs[i]["height"],
                annotations=coco.loadAnns(
                    coco.getAnnIds(imgIds=[i], catIds=class_ids, iscrowd=None)
                ),
            )
        if return_coco:
            return coco

    def load_mask(self, image_id):
        image_info = self.image_info[image_id]
        if image_info["source"] != "coco":
            return super(CocoDataset, self).load_mask(image_id)
        instance_masks = []
        class_ids = []
        for annotation in self.image_info[image_id]["annotations"]:
            class_id = self.map_source_class_id("coco.{}".format(annotation["category_id"]))
            if class_id:
                m = self.annToMask(annotation, image_info["height"], image_info["width"])
                if m.max() < 1:
                    continue
                if annotation["iscrowd"]:
                    class_id *= -1
                instance_masks.append(m)
                class_ids.append(class_id)
        if class_ids:
            mask = np.stack(instance_masks, axis=2).astype(np.bool)
            class_ids = np.array(class_ids, dtype=np.int32)
            return mask, class_ids
        else:
            return super(CocoDataset, self).load_mask(image_id)

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        if info["source"] == "coco":
            return "http://cocodataset.org/#explore?id={}".format(info["id"])
        else:
            super(CocoDataset, self).image_reference(image_id)

    def annToMask(self, ann, height, width):
        segm = ann["segmentation"]
        if isinstance(segm, list):
            rle = maskUtils.merge(maskUtils.frPyObjects(segm, height, width))
        elif isinstance(segm["counts"], list):
            rle = maskUtils.frPyObjects(segm, height, width)
        else:
            rle = ann["segmentation"]
        return maskUtils.decode(rle)


def build_coco_results(dataset, image_ids, rois, class_ids, scores, masks):
    if rois is None:
        return []
    results = []
    for image_id in image_ids:
        for i in range(rois.shape[0]):
            class_id = class_ids[i]
            bbox = np.around(rois[i], 1)
            mask = masks[:, :, i]
            results.append(
                {
                    "image_id": image_id,
                    "category_id": dataset.get_source_class_id(class_id, "coco"),
                    "bbox": [bbox[1], bbox[0], bbox[3] - bbox[1], bbox[2] - bbox[0]],
                    "score": scores[i],
                    "segmentation": maskUtils.encode(np.asfortranarray(mask)),
                }
            )
    return results


def evaluate_coco(model, dataset, coco, eval_type="bbox", limit=0, image_ids=None):
    image_ids = image_ids or dataset.image_ids
    if limit:
        image_ids = image_ids[:limit]
    coco_image_ids = [dataset.image_info[id]["id"] for id in image_ids]
    t_prediction = 0
    results = []
    for i, image_id in enumerate(image_ids):
        image = dataset.load_image(image_id)
        t = time.time()
        r = model.detect([image], verbose=0)[0]
        t_prediction += time.time() - t
        results.extend(
            build_coco_results(
                dataset,
                coco_image_ids[i : i + 1],
                r["rois"],
                r["class_ids"],
                r["scores"],
                r["masks"].astype(np.uint8),
            )
        )
    coco_results = coco.loadRes(results)
    cocoEval = COCOeval(coco, coco_results, eval_type)
    cocoEval.params.imgIds = coco_image_ids
    cocoEval.evaluate()
    cocoEval.accumulate()
    cocoEval.summarize()
    print(
        "Prediction time: {}. Average {}/image".format(t_prediction, t_prediction / len(image_ids))
    )
    return cocoEval.stats


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()

    class InferenceConfig(CocoConfig):
        GPU_COUNT = 1
        IMAGES_PER_GPU = 1
        DETECTION_MIN_CONFIDENCE = 0

    config = InferenceConfig()
    model = modellib.MaskRCNN(mode="inference", config=config, model_dir="logs")
    model.load_weights(args.model, by_name=True)
    dataset_val = CocoDataset()
    coco = dataset_val.load_coco(args.dataset, return_coco=True)
    dataset_val.prepare()
    box_stats = evaluate_coco(model, dataset_val, coco, "bbox", limit=2)
    mask_stats = evaluate_coco(model, dataset_val, coco, "segm", limit=2)
