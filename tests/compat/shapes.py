"""A notebook as a script: generated shapes, three stages, then the last checkpoint.

python shapes.py LOGS coco.h5
"""

import os
import random
import sys

import cv2
import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from small import Config

import mrcnn.model as modellib
from mrcnn import utils, visualize
from mrcnn.model import log

MODEL_DIR, COCO_MODEL_PATH = sys.argv[1:3]
if not os.path.exists(COCO_MODEL_PATH):
    utils.download_trained_weights(COCO_MODEL_PATH)


class ShapesConfig(Config):
    NAME = "shapes"
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 2
    STEPS_PER_EPOCH = 1
    VALIDATION_STEPS = 1


config = ShapesConfig()
config.display()


def get_ax(rows=1, cols=1, size=8):
    _, ax = plt.subplots(rows, cols, figsize=(size * cols, size * rows))
    return ax


class ShapesDataset(utils.Dataset):
    def load_shapes(self, count, height, width):
        self.add_class("shapes", 1, "square")
        self.add_class("shapes", 2, "circle")
        for i in range(count):
            shapes = []
            for _ in range(random.randint(1, 3)):
                kind = random.choice(["square", "circle"])
                color = tuple(random.randint(0, 255) for _ in range(3))
                size = random.randint(6, 12)
                y, x = (
                    random.randint(size, height - size - 1),
                    random.randint(size, width - size - 1),
                )
                shapes.append((kind, color, (x, y, size)))
            self.add_image(
                "shapes", image_id=i, path=None, width=width, height=height, shapes=shapes
            )

    def load_image(self, image_id):
        info = self.image_info[image_id]
        image = np.full([info["height"], info["width"], 3], 90, dtype=np.uint8)
        for shape, color, dims in info["shapes"]:
            image = self.draw_shape(image, shape, dims, color)
        return image

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        if info["source"] == "shapes":
            return info["shapes"]
        else:
            super(self.__class__).image_reference(self, image_id)

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        shapes = info["shapes"]
        mask = np.zeros([info["height"], info["width"], len(shapes)], dtype=np.uint8)
        for i, (shape, _, dims) in enumerate(shapes):
            mask[:, :, i : i + 1] = self.draw_shape(mask[:, :, i : i + 1].copy(), shape, dims, 1)
        class_ids = np.array([self.class_names.index(s[0]) for s in shapes])
        return mask.astype(np.bool), class_ids.astype(np.int32)

    def draw_shape(self, image, shape, dims, color):
        x, y, s = dims
        if shape == "square":
            return cv2.rectangle(image, (x - s, y - s), (x + s, y + s), color, -1)
        return cv2.circle(image, (x, y), s, color, -1)


dataset_train = ShapesDataset()
dataset_train.load_shapes(8, config.IMAGE_SHAPE[0], config.IMAGE_SHAPE[1])
dataset_train.prepare()
dataset_val = ShapesDataset()
dataset_val.load_shapes(3, config.IMAGE_SHAPE[0], config.IMAGE_SHAPE[1])
dataset_val.prepare()

for image_id in np.random.choice(dataset_train.image_ids, 2):
    image = dataset_train.load_image(image_id)
    mask, class_ids = dataset_train.load_mask(image_id)
    visualize.display_top_masks(image, mask, class_ids, dataset_train.class_names)

model = modellib.MaskRCNN(mode="training", config=config, model_dir=MODEL_DIR)
model.load_weights(
    COCO_MODEL_PATH,
    by_name=True,
    exclude=["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"],
)


class Watch(keras.callbacks.Callback):
    epochs, losses = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.losses.append(dict(logs))


def snapshot(layer_name):
    return model.keras_model.get_layer(layer_name).get_weights()


stages = [
    ("heads", config.LEARNING_RATE, 1),
    ("4+", config.LEARNING_RATE, 2),
    ("all", config.LEARNING_RATE / 10, 3),
]
before, after = {}, {}
for layers, learning_rate, epochs in stages:
    before[layers] = {
        name: snapshot(name)
        for name in ("conv1", "bn_conv1", "res4w_branch2b", "mrcnn_class_logits")
    }
    model.train(
        dataset_train,
        dataset_val,
        learning_rate=learning_rate,
        epochs=epochs,
        layers=layers,
        custom_callbacks=[Watch()],
    )
    after[layers] = {name: snapshot(name) for name in before[layers]}

model.keras_model.summary()
model_path = os.path.join(MODEL_DIR, "mask_rcnn_shapes.h5")
model.keras_model.save_weights(model_path)


class InferenceConfig(ShapesConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


inference_config = InferenceConfig()
model = modellib.MaskRCNN(mode="inference", config=inference_config, model_dir=MODEL_DIR)
model_path = model.find_last()
print("Loading weights from ", model_path)
model.load_weights(model_path, by_name=True)

image_id = random.choice(dataset_val.image_ids)
original_image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
    dataset_val, inference_config, image_id, use_mini_mask=False
)
log("original_image", original_image)
log("image_meta", image_meta)
log("gt_class_id", gt_class_id)
log("gt_bbox", gt_bbox)
log("gt_mask", gt_mask)
visualize.display_instances(
    original_image, gt_bbox, gt_mask, gt_class_id, dataset_train.class_names, figsize=(8, 8)
)

results = model.detect([original_image], verbose=1)
r = results[0]
visualize.display_instances(
    original_image,
    r["rois"],
    r["masks"],
    r["class_ids"],
    dataset_val.class_names,
    r["scores"],
    ax=get_ax(),
)

# The mean of each image's AP: on photos, and the way another widely copied script does it, on
# molded images
APs, molded_APs = [], []
for image_id in dataset_val.image_ids:
    image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
        dataset_val, inference_config, image_id, use_mini_mask=False
    )
    molded_images = np.expand_dims(modellib.mold_image(image, inference_config), 0)
    r = model.detect([image], verbose=0)[0]
    AP, precisions, recalls, overlaps = utils.compute_ap(
        gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
    )
    APs.append(AP)
    m = model.detect(molded_images, verbose=0)[0]
    molded_APs.append(
        utils.compute_ap(
            gt_bbox, gt_class_id, gt_mask, m["rois"], m["class_ids"], m["scores"], m["masks"]
        )[0]
    )
    same_boxes = np.array_equal(r["rois"], m["rois"])
print("mAP: ", np.mean(APs))

# Next morning: go on where it stopped
resumed = modellib.MaskRCNN(mode="training", config=config, model_dir=MODEL_DIR)
resumed.load_weights(resumed.find_last(), by_name=True)
nothing_left = resumed.train(
    dataset_train, dataset_val, learning_rate=0.001, epochs=3, layers="heads"
)

# Scripts of 2017 took the second of a tuple: this is one character of a path now
path_of_2017 = resumed.find_last()[1]
