"""Find cell nuclei: train on crops, detect in whole images, write run-length codes.

python nuclei.py train --dataset=FOLDER --weights=coco.h5 --logs=LOGS
python nuclei.py detect --dataset=FOLDER --weights=last --logs=LOGS --results=FOLDER
"""

import argparse
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import skimage.io
from small import Config

from mrcnn import model as modellib
from mrcnn import utils, visualize

VAL_IMAGE_IDS = ["cells_2"]


class NucleusConfig(Config):
    NAME = "nucleus"
    NUM_CLASSES = 1 + 1
    STEPS_PER_EPOCH = (4 - len(VAL_IMAGE_IDS)) // 2
    VALIDATION_STEPS = max(1, len(VAL_IMAGE_IDS) // 2)
    DETECTION_MIN_CONFIDENCE = 0
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    IMAGE_MIN_SCALE = 2.0
    RPN_NMS_THRESHOLD = 0.9
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (28, 28)
    MAX_GT_INSTANCES = 20


class NucleusInferenceConfig(NucleusConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.7


class NucleusDataset(utils.Dataset):
    def load_nucleus(self, dataset_dir, subset):
        self.add_class("nucleus", 1, "nucleus")
        image_ids = VAL_IMAGE_IDS
        if subset != "val":
            image_ids = next(os.walk(dataset_dir))[1]
            if subset == "train":
                image_ids = list(set(image_ids) - set(VAL_IMAGE_IDS))
        for image_id in image_ids:
            self.add_image(
                "nucleus",
                image_id=image_id,
                path=os.path.join(dataset_dir, image_id, "images/{}.png".format(image_id)),
            )

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        mask_dir = os.path.join(os.path.dirname(os.path.dirname(info["path"])), "masks")
        mask = []
        for f in next(os.walk(mask_dir))[2]:
            if f.endswith(".png"):
                m = skimage.io.imread(os.path.join(mask_dir, f)).astype(np.bool)
                mask.append(m)
        mask = np.stack(mask, axis=-1)
        return mask, np.ones([mask.shape[-1]], dtype=np.int32)

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        if info["source"] == "nucleus":
            return info["id"]
        else:
            super(self.__class__, self).image_reference(image_id)


def train(model, dataset_dir):
    dataset_train = NucleusDataset()
    dataset_train.load_nucleus(dataset_dir, "train")
    dataset_train.prepare()
    dataset_val = NucleusDataset()
    dataset_val.load_nucleus(dataset_dir, "val")
    dataset_val.prepare()

    from imgaug import augmenters as iaa

    augmentation = iaa.SomeOf(
        (0, 2),
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.OneOf([iaa.Affine(rotate=90), iaa.Affine(rotate=180), iaa.Affine(rotate=270)]),
            iaa.Multiply((0.8, 1.5)),
            iaa.GaussianBlur(sigma=(0.0, 5.0)),
        ],
    )
    print("Train network heads")
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=0.001,
        epochs=1,
        augmentation=augmentation,
        layers="heads",
    )
    print("Train all layers")
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=0.001,
        epochs=2,
        augmentation=augmentation,
        layers="all",
    )


def rle_encode(mask):
    """Runs of ones in columns, counted from 1, as the competition wants them."""
    assert mask.ndim == 2, "Mask must be of shape [Height, Width]"
    m = mask.T.flatten()
    g = np.diff(np.concatenate([[0], m, [0]]), n=1)
    rle = np.where(g != 0)[0].reshape([-1, 2]) + 1
    rle[:, 1] = rle[:, 1] - rle[:, 0]
    return " ".join(map(str, rle.flatten()))


def mask_to_rle(image_id, mask, scores):
    assert mask.ndim == 3, "Mask must be [H, W, count]"
    if mask.shape[-1] == 0:
        return "{},".format(image_id)
    order = np.argsort(scores)[::-1] + 1  # 1-based descending
    mask = np.max(mask * np.reshape(order, [1, 1, -1]), -1)
    lines = []
    for o in order:
        m = np.where(mask == o, 1, 0)
        if m.sum() == 0.0:
            continue
        lines.append("{}, {}".format(image_id, rle_encode(m)))
    return "\n".join(lines)


def detect(model, dataset_dir, results_dir):
    os.makedirs(results_dir)
    dataset = NucleusDataset()
    dataset.load_nucleus(dataset_dir, "all")
    dataset.prepare()
    submission = []
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        r = model.detect([image], verbose=0)[0]
        source_id = dataset.image_info[image_id]["id"]
        submission.append(mask_to_rle(source_id, r["masks"], r["scores"]))
        visualize.display_instances(
            image,
            r["rois"],
            r["masks"],
            r["class_ids"],
            dataset.class_names,
            r["scores"],
            show_bbox=False,
            show_mask=False,
            title="Predictions",
        )
        plt.savefig("{}/{}.png".format(results_dir, source_id))
    with open(os.path.join(results_dir, "submit.csv"), "w") as f:
        f.write("ImageId,EncodedPixels\n" + "\n".join(submission))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--dataset")
    parser.add_argument("--weights")
    parser.add_argument("--logs")
    parser.add_argument("--results")
    args = parser.parse_args()
    if args.command == "train":
        config = NucleusConfig()
        model = modellib.MaskRCNN(mode="training", config=config, model_dir=args.logs)
    else:
        config = NucleusInferenceConfig()
        model = modellib.MaskRCNN(mode="inference", config=config, model_dir=args.logs)
    weights_path = args.weights if args.weights != "last" else model.find_last()
    exclude = (
        ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
        if args.command == "train"
        else None
    )
    model.load_weights(weights_path, by_name=True, exclude=exclude)
    if args.command == "train":
        train(model, args.dataset)
    else:
        detect(model, args.dataset, args.results)
