"""Every NumPy helper against numbers recorded from matterport's code (tests/reference/README.md).

Integers and booleans are equal, floats agree to 1e-6 relative. The numbers come from scikit-image
0.21; 0.26 gives the same in every recorded case. tests/evaluation/test_matching.py compares the
helpers of evaluation.
"""

import inspect
import random

import numpy as np
import pytest

from mrcnn import model as modellib
from mrcnn import utils
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset

IN_TEST_MATCHING = {
    "compute_matches",
    "compute_ap",
    "compute_ap_range",
    "compute_recall",
    "trim_zeros",
}


def by_function(archive):
    """`{function: {case: ({argument: value}, [outputs])}}` of arrays by `function/case/name`."""
    found = {}
    for key, value in archive.items():
        function, _, rest = key.partition("/")
        case, _, name = rest.partition("/")
        if not rest:
            continue  # "versions"
        inputs, outputs = found.setdefault(function, {}).setdefault(case, ({}, []))
        if name.startswith("in_"):
            inputs[name[3:]] = plain(value)
        else:
            outputs.append(plain(value))
    return found


@pytest.fixture(scope="module")
def cases(parity):
    return by_function(parity["helpers"])


def plain(value):
    """Convert scalars to Python's, and the recorded text "None" to None."""
    value = value.item() if value.ndim == 0 else value
    return None if isinstance(value, str) and value == "None" else value


def check(outputs, expected, name):
    assert len(outputs) == len(expected), name
    for i, (output, recorded) in enumerate(zip(outputs, expected, strict=True)):
        where = f"{name}, output {i}"
        if recorded is None:
            assert output is None, where
            continue
        output, recorded = np.asarray(output), np.asarray(recorded)
        assert output.shape == recorded.shape, where
        if recorded.dtype.kind == "f":
            np.testing.assert_allclose(output, recorded, rtol=1e-6, atol=0, err_msg=where)
        else:
            np.testing.assert_array_equal(output, recorded, err_msg=where)


def run(function, inputs):
    """The outputs of a helper with `exact=True` and the recorded seeds of the global generators."""
    inputs = dict(inputs)
    if "python_random_seed" in inputs:
        random.seed(inputs.pop("python_random_seed"))
    if "numpy_seed" in inputs:
        np.random.seed(inputs.pop("numpy_seed"))
    if "exact" in inspect.signature(function).parameters:
        inputs["exact"] = True
    result = function(**inputs)
    return result if isinstance(result, tuple) else (result,)


SIMPLE = [
    utils.compute_iou,
    utils.compute_overlaps,
    utils.compute_overlaps_masks,
    utils.non_max_suppression,
    utils.apply_box_deltas,
    utils.box_refinement,
    utils.norm_boxes,
    utils.denorm_boxes,
    utils.generate_anchors,
    utils.generate_pyramid_anchors,
    utils.resize_image,
    utils.resize_mask,
    utils.extract_bboxes,
    utils.minimize_mask,
    utils.expand_mask,
    utils.unmold_mask,
    modellib.compose_image_meta,
    modellib.generate_random_rois,
]
NAMES = {
    utils.compute_overlaps_masks: "compute_overlaps_masks",
    utils.norm_boxes: "norm_boxes",
    utils.denorm_boxes: "denorm_boxes",
}
WITH_CONFIG = [
    "compute_backbone_shapes",
    "mold_image",
    "unmold_image",
    "build_rpn_targets",
    "build_detection_targets",
]
OTHERS = ["parse_image_meta", "load_image_gt"]


def name_of(function):
    return NAMES.get(function, function.__name__)


def test_no_recorded_helper_is_forgotten(cases):
    assert (
        set(cases)
        == {name_of(f) for f in SIMPLE} | set(WITH_CONFIG) | set(OTHERS) | IN_TEST_MATCHING
    )


@pytest.mark.parametrize("function", SIMPLE, ids=name_of)
def test_helper(cases, function):
    for case, (inputs, expected) in cases[name_of(function)].items():
        check(run(function, inputs), expected, case)


def test_resize_image_on_all_recorded_images(shared):
    with np.load(shared / "reference" / "helpers.npz") as file:
        keys = [key for key in file.files if key.startswith("resize_image/")]
        recorded = by_function({key: file[key] for key in keys})["resize_image"]
    assert len(recorded) == 23
    for case, (inputs, expected) in recorded.items():
        check(run(utils.resize_image, inputs), expected, case)


class Settings(Config):
    NUM_CLASSES = 4
    IMAGE_MIN_DIM = 256
    IMAGE_MAX_DIM = 256
    EXACT_RESIZE = True


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_helper_with_config(cases, name):
    function = getattr(modellib, name)
    for case, (inputs, expected) in cases[name].items():
        inputs, config = dict(inputs), Settings()
        config.USE_MINI_MASK = case == "mini1"
        for setting in [key for key in inputs if key.isupper()]:
            setattr(config, setting, inputs.pop(setting))
        check(run(function, {**inputs, "config": config}), expected, case)


def test_parse_image_meta(cases):
    for case, (inputs, expected) in cases["parse_image_meta"].items():
        check(modellib.parse_image_meta(**inputs).values(), expected, case)


class Recorded(Dataset):
    """One recorded image."""

    def __init__(self, pixels, masks, class_ids):
        super().__init__()
        self.pixels, self.masks, self.ids = pixels, masks, class_ids
        for i in (1, 2, 3):
            self.add_class("recorded", i, str(i))
        self.add_image("recorded", 0, path=None)
        self.prepare()

    def load_image(self, image_id):
        return self.pixels

    def load_mask(self, image_id):
        return self.masks, self.ids


def test_load_image_gt(cases):
    for case, (inputs, expected) in cases["load_image_gt"].items():
        dataset = Recorded(inputs["image_raw"], inputs["mask_raw"], inputs["class_ids"])
        outputs = modellib.load_image_gt(dataset, Settings(), 0, use_mini_mask=case == "mini1")
        check(outputs, expected, case)
