"""ResNet-C4 on generated shapes: one map of stride 16, whose stage 5 all branches share.

mrcnn demo --config samples/shapes/c4.py --out c4_demo
"""

from mrcnn.app.demo import DemoConfig


class C4Config(DemoConfig):
    """As `DemoConfig`, at twice the size, because a cell of the one map has 16 pixels.

    RPN and heads read C4 (He 2017, figure 4 left).
    """

    NAME = "shapes_c4"
    BACKBONE_STRIDES = [16]
    BOX_HEAD = "res5"
    MASK_SHAPE = [14, 14]
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    IMAGES_PER_GPU = 4
    RPN_ANCHOR_SCALES = (32, 48, 64, 96, 128, 192)
    ROI_SAMPLING = "fill"
    TRAIN_ROIS_PER_IMAGE = 64
