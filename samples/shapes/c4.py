"""The demo's network without a pyramid: only C4, whose stage 5 the branches share (ResNet-C4).

mrcnn demo --config samples/shapes/c4.py --out c4_demo
"""

from mrcnn.app.demo import DemoConfig


class C4Config(DemoConfig):
    """As `DemoConfig`, but RPN and heads read one map of stride 16 (He 2017, figure 4 left)."""

    NAME = "shapes_c4"
    BACKBONE_STRIDES = [16]
    BOX_HEAD = "res5"
    MASK_SHAPE = [14, 14]
