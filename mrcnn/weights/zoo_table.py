"""The one table of released weights: network, address, checksum, licence, classes, published AP."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from .. import presets
from ..config import Config
from .coco_classes import COCO_80, COCO_91, COCO_KEYPOINTS, COCO_SKELETON


class ReleasedFile(NamedTuple):
    """A file that somebody has published."""

    url: str
    size: int | None  # bytes; None if it is not known
    md5: str | None = None  # hexadecimal; None if it is not published
    older_md5s: tuple[str, ...] = ()  # of earlier releases, which may stay in a cache
    sha256: str | None = None  # hexadecimal, or its first digits; None if it is not known


COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
# As published by NVIDIA with TensorRT's sample sampleUffMaskRCNN; nobody publishes a SHA-256.
COCO_MODEL_MD5 = "e98aaff6f99e307b5e2a8a3ff741a518"
COCO_MODEL_SIZE = 257_557_808  # bytes

COCO_MODEL = ReleasedFile(COCO_MODEL_URL, COCO_MODEL_SIZE, COCO_MODEL_MD5)

# Settings of each preset; the first is Config's defaults.
_PRESETS: dict[str, dict[str, Any]] = {
    "matterport": {},
    "torchvision(1)": presets.TORCHVISION[1],
    "torchvision(2)": presets.TORCHVISION[2],
    "detectron": presets.DETECTRON,
    "retinanet(1)": presets.RETINANET[1],
    "retinanet(2)": presets.RETINANET[2],
    "fcos": presets.FCOS,
}


class Released(NamedTuple):
    """A row of the table: weights that somebody has published, and the network they are for.

    class_names: background first, in the order of the class ids of the network built from them.
    box_ap, mask_ap: as published, in percent, on the images that `ap_source` names.
    """

    name: str
    network: str
    file: ReleasedFile
    preset: str  # Config.<preset>
    settings: dict[str, Any]  # on top of the preset's
    class_names: list[str]
    licence: str
    box_ap: float
    mask_ap: float | None  # None: a network without masks
    ap_source: str
    aliases: tuple[str, ...] = ()

    @property
    def network_settings(self) -> dict[str, Any]:
        """The preset's settings and the row's own, without NAME and NUM_CLASSES."""
        return {**_PRESETS[self.preset], **self.settings}

    @property
    def categories(self) -> list[str]:
        """The class names without the background and COCO's unused ids."""
        return [name for name in self.class_names if name in COCO_80[1:]]

    def config(self) -> Config:
        """Return the config of the network, with COCO's classes."""
        config = Config()
        for setting, value in self.network_settings.items():
            setattr(config, setting, copy.copy(value))
        config.NAME = "coco"
        config.NUM_CLASSES = len(self.class_names)
        return config

    def metadata(self) -> dict[str, Any]:
        """Return the description of the network, as weight files of this package carry it."""
        return {"config": self.config().to_dict(), "class_names": list(self.class_names)}


_TORCHVISION = "https://download.pytorch.org/models/"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision's code; no licence of its own is stated)"
_DETECTRON2_LICENCE = "CC BY-SA 3.0 (detectron2's model zoo; its code: Apache-2.0)"
_MATTERPORT_LICENCE = "MIT (matterport's repository; no licence of its own is stated)"
_TORCHVISION_AP = "torchvision's Weights enum, COCO val2017"
_DETECTRON2_AP = "detectron2's MODEL_ZOO.md, COCO val2017"
_MATTERPORT_AP = "release notes of matterport's v2.0, COCO 2014 minival"

# torchvision's file names end with the first eight digits of their SHA-256 (documentation of
# torch.hub); detectron2 publishes none. The digits beyond those, and the exact sizes, are those
# that several projects recorded after their downloads. docs/weights.md has the sources.
RELEASED = (
    Released(
        name="maskrcnn_resnet50_fpn_v2_coco",
        network="torchvision's Mask R-CNN, ResNet-50 FPN, second version",
        file=ReleasedFile(
            _TORCHVISION + "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
            size=185_828_065,
            sha256="73cbd0190fcbe3ba339921fbce2c3a0b6bb9126c9a133c85e43a2a8e060a109e",
        ),
        preset="torchvision(2)",
        settings={},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=47.4,
        mask_ap=41.8,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="maskrcnn_resnet50_fpn_coco",
        network="torchvision's Mask R-CNN, ResNet-50 FPN",
        file=ReleasedFile(
            _TORCHVISION + "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
            size=178_090_079,
            sha256="bf2d0c1efbc936eeee2bc95a48e80ebc86b891f61b0106485937fc29f9315fc0",
        ),
        preset="torchvision(1)",
        settings={},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=37.9,
        mask_ap=34.6,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="fasterrcnn_resnet50_fpn_v2_coco",
        network="torchvision's Faster R-CNN, ResNet-50 FPN, second version",
        file=ReleasedFile(
            _TORCHVISION + "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
            size=175_221_657,
            sha256="dd69338a24b8d7381807e247652bdc356325bcbaf1cd3e092e00e0a1a58706bf",
        ),
        preset="torchvision(2)",
        settings={"USE_MASK": False},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=46.7,
        mask_ap=None,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="fasterrcnn_resnet50_fpn_coco",
        network="torchvision's Faster R-CNN, ResNet-50 FPN",
        file=ReleasedFile(
            _TORCHVISION + "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
            size=167_502_836,
            sha256="258fb6c638b15964ddcdd1ae0748c5eef1be9e732750120cc857feed3faac384",
        ),
        preset="torchvision(1)",
        settings={"USE_MASK": False},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=37.0,
        mask_ap=None,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="keypointrcnn_resnet50_fpn_coco",
        network="torchvision's Keypoint R-CNN, ResNet-50 FPN",
        file=ReleasedFile(
            _TORCHVISION + "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
            size=237_034_793,
            sha256="fc266e953d2b302cdcbb9ae66f71f6b0d4649928bf02dc573961e361e4918926",
        ),
        preset="torchvision(1)",
        settings={
            "USE_MASK": False,
            "NUM_KEYPOINTS": 17,
            "KEYPOINT_NAMES": COCO_KEYPOINTS,
            "KEYPOINT_SKELETON": COCO_SKELETON,
        },
        class_names=["BG", "person"],
        licence=_TORCHVISION_LICENCE,
        box_ap=54.6,
        mask_ap=None,
        ap_source=_TORCHVISION_AP + " (persons; keypoint AP 0.650)",
    ),
    Released(
        name="retinanet_resnet50_fpn_v2_coco",
        network="torchvision's RetinaNet, ResNet-50 FPN, second version",
        file=ReleasedFile(
            _TORCHVISION + "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
            size=153_130_989,
            sha256="5905b1c544219215e544dbe319720397bc4e68de61a733a59350d7976645b769",
        ),
        preset="retinanet(2)",
        settings={},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=41.5,
        mask_ap=None,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="retinanet_resnet50_fpn_coco",
        network="torchvision's RetinaNet, ResNet-50 FPN",
        file=ReleasedFile(
            _TORCHVISION + "retinanet_resnet50_fpn_coco-eeacb38b.pth",
            size=136_595_076,
            sha256="eeacb38b7cec8cf93c57867e05eaab621047f19b0d2ec5accaa405f690da15b7",
        ),
        preset="retinanet(1)",
        settings={},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=36.4,
        mask_ap=None,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="fcos_resnet50_fpn_coco",
        network="torchvision's FCOS, ResNet-50 FPN",
        file=ReleasedFile(
            _TORCHVISION + "fcos_resnet50_fpn_coco-99b0c9b7.pth",
            size=129_612_099,
            sha256="99b0c9b7cfb1527d782db86b91d207f00547c792fb4103fc612b651d0a07b9e7",
        ),
        preset="fcos",
        settings={},
        class_names=COCO_91,
        licence=_TORCHVISION_LICENCE,
        box_ap=39.2,
        mask_ap=None,
        ap_source=_TORCHVISION_AP,
    ),
    Released(
        name="mask_rcnn_R_101_FPN_3x",
        network="detectron2's Mask R-CNN, ResNet-101 FPN",
        file=ReleasedFile(
            _DETECTRON2 + "mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl", size=None
        ),
        preset="detectron",
        settings={"BACKBONE": "resnet101"},
        class_names=COCO_80,
        licence=_DETECTRON2_LICENCE,
        box_ap=42.9,
        mask_ap=38.6,
        ap_source=_DETECTRON2_AP,
    ),
    Released(
        name="mask_rcnn_R_50_FPN_3x",
        network="detectron2's Mask R-CNN, ResNet-50 FPN",
        file=ReleasedFile(
            _DETECTRON2 + "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
            size=177_841_981,
            sha256="9a737e290372f1f70994ebcbd89d8004dbb3ae30a605fd915a190fa4a782dd66",
        ),
        preset="detectron",
        settings={},
        class_names=COCO_80,
        licence=_DETECTRON2_LICENCE,
        box_ap=41.0,
        mask_ap=37.2,
        ap_source=_DETECTRON2_AP,
    ),
    Released(
        name="coco",
        network="matterport's Mask R-CNN, ResNet-101 FPN",
        file=COCO_MODEL,
        preset="matterport",
        settings={},
        class_names=COCO_80,
        licence=_MATTERPORT_LICENCE,
        box_ap=34.7,
        mask_ap=29.6,
        ap_source=_MATTERPORT_AP,
        aliases=("mask_rcnn_coco",),
    ),
)
