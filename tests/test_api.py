"""The public names of matterport/Mask_RCNN 2.1 exist, with parameters and defaults in order."""

import ast
import importlib
import inspect

import numpy as np
import pytest

import mrcnn
from mrcnn import parallel_model, utils
from mrcnn.weights import zoo_table

MODULES = ("config", "utils", "model", "visualize", "parallel_model")


@pytest.mark.parametrize("name", MODULES)
def test_every_name_resolves_with_its_parameters(matterport_api, name):
    module = importlib.import_module(f"mrcnn.{name}")
    problems = []
    for symbol, entry in matterport_api[f"mrcnn.{name}"].items():
        found = getattr(module, symbol, None)
        if found is None:
            problems.append(f"{symbol} is missing")
        elif entry["kind"] == "class":
            for method, args in entry["methods"].items():
                problems += differences(f"{symbol}.{method}", getattr(found, method, None), args)
            problems += [
                f"{symbol}.{attribute} is missing"
                for attribute in entry["attributes"]
                if not hasattr(found, attribute)
            ]
        else:
            problems += differences(symbol, found, entry["args"])
    assert problems == []


def differences(name, function, expected):
    """Reasons why a call of the original fails here; additional parameters are allowed."""
    if function is None:
        return [f"{name} is missing"]
    found = list(inspect.signature(function).parameters.values())
    named = [parameter for parameter in expected if not parameter[0].startswith("*")]
    problems = []
    for i, (parameter, default) in enumerate(named):
        if i >= len(found) or found[i].name != parameter:
            problems.append(
                f"{name}: parameter {i} must be {parameter}, is {[p.name for p in found]}"
            )
        elif default is None and found[i].default is not inspect.Parameter.empty:
            pass  # a parameter that was required may have become optional
        elif default is not None and not same(found[i].default, default):
            problems.append(
                f"{name}: {parameter} must default to {default}, is {found[i].default!r}"
            )
    for extra in found[len(named) :]:
        required = extra.default is inspect.Parameter.empty and extra.kind not in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if required:
            problems.append(f"{name}: {extra.name} is not the original's and has no default")
    kinds = {parameter.kind for parameter in found}
    for parameter, _ in expected:
        if parameter.startswith("**") and inspect.Parameter.VAR_KEYWORD not in kinds:
            problems.append(f"{name} must take {parameter}")
    return problems


def same(value, text):
    """Whether a value equals the source text of the original's value."""
    try:
        return value == ast.literal_eval(text)
    except ValueError:  # np.array([...])
        return np.array_equal(value, eval(text, {"np": np}))


def test_differences_are_reported():
    def one(a, b=2):
        return a + b

    assert differences("one", one, [["a", None], ["b", "2"]]) == []
    assert differences("one", one, [["a", None], ["b", "3"]]) == ["one: b must default to 3, is 2"]
    assert differences("one", one, [["b", None]]) != []
    assert differences("one", one, []) == ["one: a is not the original's and has no default"]
    assert differences("one", one, [["a", None], ["b", "2"], ["**kwargs", None]]) == [
        "one must take **kwargs"
    ]
    assert differences("one", None, []) == ["one is missing"]


def test_every_setting_has_the_original_default(matterport_api):
    from mrcnn.config import Config

    for name, text in matterport_api["mrcnn.config"]["Config"]["attributes"].items():
        assert same(getattr(Config, name), text), name


def test_names_outside_of_the_list_resolve_too():
    from mrcnn import model

    assert utils.COCO_MODEL_URL.endswith("v2.0/mask_rcnn_coco.h5")
    generator = inspect.signature(model.DataGenerator).parameters
    assert list(generator)[:3] == ["dataset", "config", "shuffle"]
    options = {
        "augmentation",
        "random_rois",
        "batch_size",
        "detection_targets",
        "no_augmentation_sources",
    }
    assert options <= set(generator)
    callback = inspect.signature(model.MeanAveragePrecisionCallback).parameters.values()
    names = [
        "train_model",
        "inference_model",
        "dataset",
        "calculate_map_at_every_X_epoch",
        "dataset_limit",
        "verbose",
    ]
    assert [parameter.name for parameter in callback] == names
    assert [parameter.default for parameter in callback][3:] == [5, None, 1]


def test_names_of_the_package_are_imported_on_first_use():
    assert {"FCOS", "MaskRCNN", "RetinaNet"} <= set(mrcnn.__all__) <= set(dir(mrcnn))
    found = {name: getattr(mrcnn, name) for name in mrcnn.__all__}
    assert found["RetinaNet"].network_name == "retinanet" and found["FCOS"].network_name == "fcos"
    for name in set(found) - {"__version__"}:
        assert found[name].__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'YOLO'"):
        _ = mrcnn.YOLO


def test_parallel_model_names_its_replacement():
    with pytest.raises(NotImplementedError, match="GPU_COUNT"):
        parallel_model.ParallelModel(keras_model=None, gpu_count=2)


def test_download_trained_weights_fetches_the_released_file(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        utils, "download", lambda url, path, **checks: asked.append((url, path, checks))
    )
    utils.download_trained_weights(tmp_path / "coco.h5", verbose=0)
    checks = {"md5": zoo_table.COCO_MODEL_MD5, "size": zoo_table.COCO_MODEL_SIZE}
    assert asked == [(zoo_table.COCO_MODEL_URL, tmp_path / "coco.h5", checks)]


def test_batch_slice_calls_once_per_image_and_stacks():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[10.0], [20.0]], np.float32)
    total = utils.batch_slice([a, b], lambda x, y: x + y, 2)
    np.testing.assert_array_equal(total, [[11, 12], [23, 24]])
    both = utils.batch_slice(a, lambda x: (x, -x), 2, names=["plus", "minus"])
    np.testing.assert_array_equal(both[1], -a)
    assert len(both) == 2
