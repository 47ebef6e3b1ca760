"""Networks and images for the tests of exports."""

import importlib.util
import re

import pytest
from tiny import build, noise_images

from mrcnn.export.formats import FORMATS
from mrcnn.export.graph import Source
from mrcnn.inference.fuse_batch_norm import BatchNormFusedModel

# Scores of 1.0 would be ties, whose order each runtime chooses.
CLASS_LAYERS = (
    "rpn_class_raw",
    "mrcnn_class_logits",
    "retinanet_class_logits",
    "fcos_class_logits",
)
SIZES = ((64, 64), (48, 100), (30, 20))


def exportable(kind="mask_rcnn", **values):
    """A tiny model whose scores differ from each other."""
    model = build(kind, **values)
    for weight in model.keras_model.weights:
        layer, name = weight.path.split("/")[-2:]
        layer = re.sub(r"cascade\d_", "", layer)
        if layer in CLASS_LAYERS and name == "kernel":
            weight.assign(weight * 0.2)
    return model


def source_of(model):
    """What `export_function` takes."""
    fused = BatchNormFusedModel(model.keras_model)
    return Source(fused, type(model).read_outputs, model.config, fused.network)


def images(count=3, sizes=SIZES):
    """Images of noise of several sizes."""
    return noise_images(count, 1, sizes)


def needs(format):
    """Skip the test if the packages of a format are not installed."""
    for module, package in FORMATS[format].packages.items():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{format} needs {package}: pip install 'mask-rcnn-keras3[export]'")
