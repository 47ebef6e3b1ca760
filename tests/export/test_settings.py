"""What can be exported, and the sentences for what cannot."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.export.formats import FORMATS, check_choice, format_named
from mrcnn.export.settings import Shape, check_network, shape_of


def config(**values):
    made = Config()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_default_config_can_be_exported_for_images_of_any_size():
    check_network(config(), is_portable=True)
    assert shape_of(config(), None, 1) == Shape(1, None, None)
    assert shape_of(config(), (480, 640), None) == Shape(None, 480, 640)


@pytest.mark.parametrize("mode", ["pad64", "none", "torchvision", "detectron2", "crop"])
def test_other_resize_modes_need_a_size(mode):
    with pytest.raises(ValueError, match=r"Received: no size. Try --size 512 512, .*\(512, 512\)"):
        shape_of(config(IMAGE_RESIZE_MODE=mode), None, 1)
    assert shape_of(config(IMAGE_RESIZE_MODE=mode), (480, 640), 2) == Shape(2, 480, 640)


def test_missing_size_is_answered_with_that_of_the_first_image():
    images = [np.zeros((30, 40, 3), np.uint8), np.zeros((50, 60, 3), np.uint8)]
    with pytest.raises(ValueError, match="Try --size 30 40, "):
        shape_of(config(IMAGE_RESIZE_MODE="crop"), None, 1, images)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"RPN_ONLY": True}, "network with heads"),
        ({"PRECISION": "mixed_bfloat16"}, "PRECISION=float32"),
        ({"EXACT_RESIZE": True}, "EXACT_RESIZE=False"),
    ],
)
def test_networks_that_cannot_be_exported(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_network(config(**values), is_portable=False)


@pytest.mark.parametrize(
    "values", [{"ROI_ALIGN": "max"}, {"ROI_ALIGN": "aligned", "ROI_ALIGN_SAMPLES": 0}]
)
def test_ways_to_read_a_roi_that_only_tensorflow_has(values):
    check_network(config(**values), is_portable=False)
    with pytest.raises(ValueError, match="Try --format saved_model"):
        check_network(config(**values), is_portable=True)
    check_network(config(NETWORK="retinanet", **values), is_portable=True)  # reads no RoIs


def test_unknown_format():
    with pytest.raises(ValueError, match="saved_model, onnx, litert, openvino"):
        format_named("tflite")


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(FORMATS["onnx"].packages, "no_such_module", "no-such-package")
    with pytest.raises(ValueError, match=r"no-such-package.*mask-rcnn-keras3\[export\]"):
        format_named("onnx")


def test_saved_model_has_no_int8():
    check_choice("onnx", "int8", 1)
    with pytest.raises(ValueError, match="Try float16"):
        check_choice("saved_model", "int8", 1)


def test_litert_needs_a_fixed_batch():
    check_choice("onnx", "float32", None)
    with pytest.raises(ValueError, match="Try --batch 1"):
        check_choice("litert", "float32", None)
