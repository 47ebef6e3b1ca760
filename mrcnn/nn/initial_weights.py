"""The initial weights of the RPN and the heads, as detectron2 and torchvision have them.

`Config.INITIAL_WEIGHTS` selects them; weights from a file replace them. The RPN's hidden
convolution, the pyramid and dense hidden layers keep Keras' own. RetinaNet and FCOS have one rule,
their papers', which stands with their layers (`nn/dense_heads.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import keras

# Convolutions before a ReLU: weights that keep the variance (He 2015, "Delving Deep into
# Rectifiers"). Keras' own halve it at each layer, unless a norm follows.
BEFORE_RELU = r"mrcnn_(box|mask|keypoint)_conv\d+|mrcnn_mask_deconv\d*"

# Last layers: the standard deviation of normal weights. So small, the first scores are even and
# the first boxes are the anchors and the proposals.
LAST = {
    "rpn_class_raw": 0.01,
    "rpn_bbox_pred": 0.01,
    "mrcnn_class_logits": 0.01,
    "mrcnn_bbox_fc": 0.001,
    "mrcnn_mask": 0.001,
}


def draw_initial_weights(layers: Iterable[keras.layers.Layer], rule: str) -> None:
    """Draw the kernels of the layers named above, unless the rule is Keras' own, "glorot".

    layers: of a network, with kernels `[..., inputs, outputs]`; those with other names stay as they
        are.
    rule: as `Config.INITIAL_WEIGHTS`.
    """
    if rule == "glorot":
        return
    for layer in layers:
        name = re.sub(r"cascade\d_", "", layer.name)  # the stages of a cascade start alike
        if name in LAST:
            initializer = keras.initializers.RandomNormal(stddev=LAST[name])
        elif re.fullmatch(BEFORE_RELU, name):
            initializer = keras.initializers.HeNormal()
        else:
            continue
        layer.kernel.assign(initializer(layer.kernel.shape))
