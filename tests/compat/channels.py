"""Images of one channel (X-ray) and of four (RGB and depth), from weights for three channels.

python channels.py coco.h5
"""

import sys

import numpy as np
from small import Config

import mrcnn.model as modellib
from mrcnn import utils


class XrayConfig(Config):
    NAME = "xray"
    NUM_CLASSES = 2
    IMAGE_CHANNEL_COUNT = 1
    MEAN_PIXEL = 127


class RgbdConfig(Config):
    NAME = "rgbd"
    NUM_CLASSES = 1 + 80
    IMAGE_CHANNEL_COUNT = 4
    MEAN_PIXEL = np.array([123.7, 116.8, 103.9, 60.0])


class RgbConfig(Config):
    NAME = "rgb"
    NUM_CLASSES = 1 + 80


class XrayDataset(utils.Dataset):
    def load(self, count):
        self.add_class("xray", 1, "bone")
        for i in range(count):
            self.add_image("xray", image_id=i, path=None, seed=i)

    def load_image(self, image_id):
        image = np.random.RandomState(self.image_info[image_id]["seed"]).randint(
            0, 255, (50, 60), dtype=np.uint8
        )
        return image[..., np.newaxis]

    def load_mask(self, image_id):
        mask = np.zeros(
            (50, 60, 1), np.float64
        )  # some projects give floats, and class ids as a list
        mask[10:30, 15:40] = 1.0
        return mask, [1]


COCO_WEIGHTS = sys.argv[1]

# One channel: conv1 of the file does not fit, and is left out
config = XrayConfig()
dataset = XrayDataset()
dataset.load(3)
dataset.prepare()
image, image_meta, class_ids, bbox, mask = modellib.load_image_gt(
    dataset, config, 0, use_mini_mask=False
)
xray = modellib.MaskRCNN("inference", config, "logs")
xray.load_weights(
    COCO_WEIGHTS,
    by_name=True,
    exclude=["conv1", "mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"],
)
xray_result = xray.detect([dataset.load_image(0)])[0]

# Four channels: conv1 is left out, then filled by hand from the three-channel network
rgb = modellib.MaskRCNN(model_dir="logs", config=RgbConfig(), mode="inference")
rgb.load_weights(COCO_WEIGHTS, by_name=True)
kernel, bias = rgb.keras_model.get_layer("conv1").get_weights()

rgbd = modellib.MaskRCNN(mode="inference", model_dir="logs", config=RgbdConfig())
rgbd.load_weights(filepath=COCO_WEIGHTS, by_name=True, exclude=["conv1"])
kernel4 = np.concatenate([kernel, np.zeros_like(kernel[:, :, :1])], axis=2)
rgbd.keras_model.get_layer("conv1").set_weights([kernel4, bias])

photo = np.random.RandomState(3).randint(0, 255, (64, 64, 4), dtype=np.uint8)
rgbd_result = rgbd.detect([photo])[0]
rgb_result = rgb.detect([photo[..., :3]])[0]
