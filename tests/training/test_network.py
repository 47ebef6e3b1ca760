"""The training step: losses, weights, shapes of images."""

import itertools
import time

import keras
import numpy as np
import pytest
from kinds import KINDS
from tiny import TinyConfig, noise_images, tiny_config
from tiny_training import (
    ODD,
    PARTS,
    BoxedSquares,
    Various,
    build,
    moved_since,
    parts_of,
    values,
)

from mrcnn import model as modellib
from mrcnn.config import LOSS_NAMES, PRECISIONS
from mrcnn.data.generator import DataGenerator
from mrcnn.model import MaskRCNN
from mrcnn.training.pipeline import Batches

pytestmark = pytest.mark.usefixtures("eagerly")


def test_class_weights_and_focal_loss_reach_the_losses(tmp_path, dataset):
    logs = {
        name: build(tmp_path, **settings).train(dataset, None, 0.0, 1, "all").history
        for name, settings in {
            "plain": {},
            "focal": {"FOCAL_GAMMA": 2.0},
            "no background": {"CLASS_WEIGHTS": [0.0, 1.0, 1.0]},
        }.items()
    }
    for name in ("rpn_class_loss", "mrcnn_class_loss"):
        assert 0 < logs["focal"][name][0] < logs["plain"][name][0]
    assert logs["no background"]["rpn_class_loss"] == logs["plain"]["rpn_class_loss"]
    assert logs["no background"]["mrcnn_class_loss"][0] != pytest.approx(
        logs["plain"]["mrcnn_class_loss"][0], rel=0.01
    )


def _trained_in(precision, folder, dataset, network, **settings):
    """The history of a training at a rate of almost 0, which leaves the weights in float32."""
    settings = {"PRECISION": precision, **settings}
    if network in ("mask_rcnn", "keypoints"):
        settings.setdefault("USE_RPN_ROIS", False)
    model = build(folder, network=network, **settings)
    before = values(model)
    history = model.train(dataset, dataset, 1e-6, 1, "all").history
    assert all(value.dtype == np.float32 for value in values(model).values())
    return history, moved_since(before, model)


@pytest.mark.parametrize("network", KINDS)
def test_mixed_precision_trains_close_to_float32(tmp_path, dataset, network):
    """On the same RoIs the losses differ by rounding: bfloat16 has 8 bits, 0.4 % per operation.

    float16 skips steps until its loss scale fits, so only its losses of validation are compared.
    """
    logs = {
        precision: _trained_in(precision, tmp_path / precision, dataset, network)[0]
        for precision in PRECISIONS
    }
    names = tiny_config(network).loss_names()
    for precision, name in [
        *itertools.product(PRECISIONS[1:], (f"val_{name}" for name in names[:2])),
        *itertools.product(["mixed_bfloat16"], names),
    ]:
        np.testing.assert_allclose(
            logs[precision][name][0],
            logs["float32"][name][0],
            rtol=0.03,
            err_msg=f"{precision} {name}",
        )
    assert keras.config.dtype_policy().name == "float32"  # for the layers of the user


def test_gradients_of_mixed_precision_are_close_to_float32(tmp_path, dataset, compiled):
    """The mean norm of eight steps: in one, a ReLU input near 0 changes it by up to 4 %.

    float16 skips steps until its loss scale fits; the mean is that of the others.
    """
    norms = {}
    for precision in PRECISIONS:
        folder = tmp_path / precision
        history, moved = _trained_in(precision, folder, dataset, "mask_rcnn", STEPS_PER_EPOCH=8)
        assert {"fpn_p2/kernel", "mrcnn_mask/bias"} <= moved
        norms[precision] = history["gradient_norm"][0]
    np.testing.assert_allclose(norms["mixed_bfloat16"], norms["float32"], rtol=0.03)
    assert np.isfinite(norms["mixed_float16"]) and norms["mixed_float16"] > 0


@pytest.mark.parametrize("network", KINDS)
def test_training_lowers_the_loss(tmp_path, dataset, compiled, network):
    model = build(tmp_path, network=network, STEPS_PER_EPOCH=8, TRAIN_BN=None)
    history = model.train(dataset, None, 0.005, epochs=4, layers="all").history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    names = (*model.config.loss_names(), "weight_decay")
    assert all(np.isfinite(history[name]).all() for name in names)


@pytest.mark.parametrize("preset", [TinyConfig.detectron, TinyConfig.detectron_scratch])
def test_training_with_the_settings_of_detectron2_lowers_the_loss(tmp_path, dataset, preset):
    keras.utils.set_random_seed(0)
    config = preset()
    config.STEPS_PER_EPOCH, config.WARMUP_STEPS = 4, 0
    config.TRAIN_BN = None  # of the tiny backbone, whose weights are random
    config.USE_MINI_MASK, config.MINI_MASK_SHAPE = True, (28, 28)
    model = MaskRCNN("training", config, tmp_path)
    history = model.train(dataset, None, 2 * config.LEARNING_RATE, epochs=2, layers="all").history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert all(np.isfinite(history[name]).all() and history[name][0] > 0 for name in PARTS)


def test_next_stage_traces_a_new_graph(tmp_path, dataset, compiled):
    """The graph of the first stage would update the backbone."""
    model = build(tmp_path, RPN_ONLY=True)
    model.train(dataset, None, 0.005, epochs=1, layers="all")
    before = values(model)
    model.train(dataset, None, 0.005, epochs=2, layers="heads")
    moved = moved_since(before, model)
    assert "fpn_p2/kernel" in moved and "res1a_conv/kernel" in before.keys() - moved


@pytest.mark.parametrize("network", KINDS)
def test_losses_stay_equal_over_three_trainings_at_rate_zero(tmp_path, dataset, network):
    """matterport's forks add the losses again at every `train()`."""
    model = build(tmp_path, network=network)
    parts = parts_of(model)
    before = values(model)
    losses = []
    for _ in range(3):
        model.epoch = 0  # the same batches again
        history = model.train(dataset, None, 0.0, epochs=1, layers="all").history
        losses.append({name: history[name][0] for name in ("loss", *parts)})
        assert history["loss"][0] == pytest.approx(
            sum(history[name][0] for name in parts), rel=1e-6
        )
    assert all(losses[0][name] > 0 for name in ("loss", parts[0], "weight_decay"))
    for again in losses[1:]:
        assert again == pytest.approx(losses[0], rel=1e-6, abs=1e-6)
    for path, value in values(model).items():
        if "seed" not in path:
            np.testing.assert_array_equal(value, before[path], err_msg=path)


def test_loss_weights_scale_their_losses(tmp_path, dataset):
    once, twice = {}, {}
    for factor, found in ((1.0, once), (2.0, twice)):
        model = build(tmp_path, LOSS_WEIGHTS={"mrcnn_class_loss": factor, "rpn_bbox_loss": 0.0})
        history = model.train(dataset, None, 0.0, epochs=1, layers="all").history
        found.update({name: value[0] for name, value in history.items()})
    assert twice["mrcnn_class_loss"] == pytest.approx(2 * once["mrcnn_class_loss"], rel=1e-5)
    assert once["rpn_bbox_loss"] == 0
    assert twice["loss"] - once["loss"] == pytest.approx(once["mrcnn_class_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("network", "train_bn"), [("mask_rcnn", False), *((network, None) for network in KINDS)]
)
def test_training_the_heads_leaves_the_backbone_unchanged(tmp_path, dataset, network, train_bn):
    model = build(tmp_path, network=network, TRAIN_BN=train_bn)
    before = values(model)
    model.train(dataset, None, 0.01, epochs=1, layers="heads")
    changed = moved_since(before, model)
    backbone = {
        path
        for path in before
        if path.split("/")[-2][:3] in ("res", "bn1", "bn2", "bn3", "bn4", "bn5")
    }
    assert len(backbone) == 5 * (2 + 4)
    assert not changed & backbone
    moving = {path for path in changed if "moving" in path}
    if not model.config.has_rpn():
        # Of one cell, P6 and P7 may have gradients of zero.
        coarse = {path for path in before if path.split("/")[-2] in ("fpn_p6", "fpn_p7")}
        assert not moving and set(before) - backbone - coarse <= changed
        return
    assert moving == set() if train_bn is False else {"mrcnn_mask_bn1/moving_mean"} <= moving
    assert {"mrcnn_mask_bn1/gamma", "mrcnn_mask/kernel", "fpn_p2/bias"} <= changed
    assert any("keypoint" in path for path in changed) == (network == "keypoints")


def test_gamma_is_trained_with_frozen_statistics(tmp_path, dataset):
    model = build(tmp_path, TRAIN_BN=False)
    before = values(model)
    model.train(dataset, None, 0.01, epochs=1, layers="all")
    after = values(model)
    assert not np.array_equal(after["bn3a/gamma"], before["bn3a/gamma"])
    for path in before:
        if "moving" in path:
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)


def test_weight_decay_applies_to_kernels_and_biases_only(tmp_path, dataset):
    """With every other loss weighted 0, a step moves w by -rate * 2 * decay * w / size(w)."""
    model = build(
        tmp_path, LOSS_WEIGHTS=dict.fromkeys(LOSS_NAMES, 0.0), WEIGHT_DECAY=0.1, STEPS_PER_EPOCH=1
    )
    bias = next(w for w in model.keras_model.weights if w.path.endswith("fpn_p2/bias"))
    bias.assign(np.ones(bias.shape))
    before = values(model)
    model.train(dataset, None, 0.5, epochs=1, layers="all")
    for path, value in values(model).items():
        if path.endswith(("kernel", "bias")):
            expected = before[path] * (1 - 0.5 * 2 * 0.1 / value.size)
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7, err_msg=path)
        elif "seed" not in path:
            np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.parametrize(
    ("network", "method", "source"),
    [
        ("mask_rcnn", "fit", "DataGenerator"),
        ("mask_rcnn", "fit_generator", "DataGenerator"),
        ("mask_rcnn", "fit_generator", "data_generator"),
        *((network, "fit", "data_generator") for network in KINDS),
    ],
)
def test_scripts_may_call_keras_fit(tmp_path, dataset, caplog, network, method, source):
    """Subclasses override `train` and call Keras with the arguments of Keras 2."""
    model = build(tmp_path, network=network)
    parts = parts_of(model)
    model.set_trainable("(mrcnn|retinanet|fcos)_.*")
    model.compile(0.01, 0.9)
    made = {
        name: getattr(modellib, source)(dataset, model.config, batch_size=2)
        for name in ("train", "val")
    }
    history = getattr(model.keras_model, method)(
        made["train"],
        epochs=2,
        steps_per_epoch=2,
        validation_data=made["val"],
        validation_steps=1,
        max_queue_size=100,
        workers=4,
        use_multiprocessing=True,
        verbose=0,
    )
    assert {"loss", *parts, *(f"val_{name}" for name in parts)} <= history.history.keys()
    assert all(
        len(losses) == 2 and np.isfinite(losses).all() for losses in history.history.values()
    )
    assert (
        caplog.text.count("keras_model.fit ignores workers, use_multiprocessing, max_queue_size: ")
        == 1
    )


def test_no_generator_is_read_after_fit(tmp_path, dataset):
    """A TensorFlow thread inside a generator would hang Python's exit."""
    model, given = build(tmp_path), []
    model.compile(0.01, 0.9)

    def slow():
        for batch in modellib.data_generator(dataset, model.config, batch_size=2):
            given.append(time.time())
            time.sleep(0.2)
            yield batch

    model.keras_model.fit(
        slow(), steps_per_epoch=1, validation_data=slow(), validation_steps=1, verbose=0
    )
    end = time.time()
    time.sleep(0.6)
    assert max(given) < end


def test_fit_generator_takes_positional_arguments(tmp_path, dataset):
    model = build(tmp_path)
    model.compile(0.01, 0.9)
    batches = modellib.data_generator(dataset, model.config, batch_size=2)
    history = model.keras_model.fit_generator(batches, 2, 3, 0)
    assert len(history.history["loss"]) == 3 and history.params["steps"] == 2


def test_random_rois_train_the_heads_without_the_rpn(tmp_path, dataset):
    model = build(tmp_path, USE_RPN_ROIS=False, STEPS_PER_EPOCH=2)
    history = model.train(dataset, None, 0.0, epochs=1, layers="heads").history
    assert history["mrcnn_bbox_loss"][0] > 0 and np.isfinite(history["loss"][0])


def test_training_with_mini_masks(tmp_path, dataset):
    model = build(tmp_path, USE_MINI_MASK=True, MINI_MASK_SHAPE=(28, 28), STEPS_PER_EPOCH=2)
    history = model.train(dataset, None, 0.0, epochs=1, layers="heads").history
    assert history["mrcnn_mask_loss"][0] > 0


@pytest.mark.parametrize(
    ("mode", "losses"),
    [
        ({"USE_MASK": False}, LOSS_NAMES[:4]),
        ({"USE_MASK": False, "USE_RPN_ROIS": False}, LOSS_NAMES[:4]),
        ({"RPN_ONLY": True}, LOSS_NAMES[:2]),
        ({"network": "retinanet"}, ("class_loss", "bbox_loss")),
        ({"network": "fcos"}, ("class_loss", "bbox_loss", "centerness_loss")),
    ],
)
def test_networks_without_masks_train_on_boxes(tmp_path, mode, losses):
    model = build(tmp_path, **mode, STEPS_PER_EPOCH=2)
    before = values(model)
    history = model.train(BoxedSquares(), BoxedSquares(2), 0.01, 1, "all").history
    named = {name for name in history if name.endswith("loss") and not name.startswith("val_")}
    assert named == {"loss", *losses}
    assert ("positive_rois" in history) == ("mrcnn_class_loss" in losses)
    has_rpn = model.config.has_rpn()
    assert history["loss"][0] == pytest.approx(
        sum(history[name][0] for name in (*losses, "weight_decay")), rel=1e-5
    )
    assert np.isfinite(history["val_loss"][0])
    moved = moved_since(before, model)
    head = "rpn_conv_shared" if has_rpn else f"{model.network_name}_class_conv1"
    assert any(head in path for path in moved) and any("res1a_conv" in path for path in moved)
    found = model._make_inference_model()
    found.load_weights(model.find_last())
    keys = {"rois", "scores"} if model.config.RPN_ONLY else {"rois", "class_ids", "scores"}
    assert set(found.detect(noise_images(1))[0]) == keys


def test_box_losses_equal_those_of_the_full_network(tmp_path, dataset):
    """Same weights, batch and sample of RoIs; only the mask loss is missing."""
    whole, boxes_only = build(tmp_path), build(tmp_path, USE_MASK=False)
    whole.save_weights(tmp_path / "whole.h5")
    boxes_only.load_weights(tmp_path / "whole.h5")
    logs = [model.train(dataset, None, 0.0, 1, "all").history for model in (whole, boxes_only)]
    for name in LOSS_NAMES[:4]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)


def test_class_agnostic_heads_train(tmp_path, dataset):
    model = build(tmp_path, CLASS_AGNOSTIC_BOX=True, CLASS_AGNOSTIC_MASK=True, STEPS_PER_EPOCH=2)
    before = values(model)
    history = model.train(dataset, None, 0.01, 1, "heads").history
    assert {"loss", *PARTS} <= set(history) and np.isfinite(history["loss"][0])
    moved = moved_since(before, model)
    assert {"mrcnn_bbox_fc/kernel", "mrcnn_mask/kernel"} <= moved


WHOLE = (64, 64), (64, 128), (128, 64), (64, 192), (128, 64)


OTHERS = [  # of networks other than Mask R-CNN
    (ODD, {"network": "retinanet", "IMAGE_RESIZE_MODE": "pad64"}),
    (ODD, {"network": "retinanet", "IMAGE_RESIZE_MODE": "crop"}),
    (ODD, {"network": "retinanet", "IMAGE_MIN_DIM": 64, "IMAGE_MAX_DIM": 128}),
    (WHOLE, {"network": "fcos", "IMAGE_RESIZE_MODE": "none", "IMAGES_PER_GPU": 1}),
    (ODD, {"network": "fcos", "IMAGE_RESIZE_MODE": "pad64"}),
    (ODD, {"network": "keypoints", "IMAGE_RESIZE_MODE": "crop"}),
    (ODD, {"network": "keypoints", "IMAGE_RESIZE_MODE": "pad64", "USE_MINI_MASK": True}),
]


@pytest.mark.parametrize(
    "shapes, settings",
    [
        *OTHERS,
        (ODD, {"IMAGE_SHAPE": [64, 128, 3], "IMAGE_MAX_DIM": 128}),
        (ODD, {"IMAGE_SHAPE": [128, 64, 3], "IMAGE_MAX_DIM": 128, "USE_MINI_MASK": True}),
        (ODD, {"IMAGE_RESIZE_MODE": "crop"}),
        (ODD, {"IMAGE_RESIZE_MODE": "crop", "IMAGE_SHAPE": [64, 128, 3]}),
        (ODD, {"IMAGE_RESIZE_MODE": "pad64", "IMAGES_PER_GPU": 1}),
        (ODD, {"IMAGE_RESIZE_MODE": "pad64", "USE_MINI_MASK": True}),
        (WHOLE, {"IMAGE_RESIZE_MODE": "none", "IMAGES_PER_GPU": 1}),
        (WHOLE, {"IMAGE_RESIZE_MODE": "none", "USE_MINI_MASK": True}),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_images_of_every_shape_train(tmp_path, shapes, settings):
    model = build(tmp_path, **settings, STEPS_PER_EPOCH=1)
    history = model.train(Various(*shapes), None, 0.001, epochs=1, layers="all").history
    assert all(np.isfinite(history[name]).all() for name in parts_of(model))
    boxes, classes = "rpn_bbox_loss", "mrcnn_class_loss"
    if not model.config.has_rpn():
        boxes, classes = "bbox_loss", "class_loss"
    assert history[boxes][0] > 0 and history[classes][0] > 0


@pytest.mark.parametrize("network", ["mask_rcnn", "retinanet"])
def test_varying_image_sizes_are_traced_once(tmp_path, compiled, network):
    """Keras would take the size of the first two batches, which are equal, for that of all."""
    dataset = Various((64, 128), (64, 128), (64, 128), (64, 128), (192, 64), (128, 64))
    model = build(tmp_path, network=network, IMAGE_RESIZE_MODE="pad64", STEPS_PER_EPOCH=3)
    traced = []
    step = model.keras_model.train_step
    model.keras_model.train_step = lambda data: traced.append(data[0][0].shape) or step(data)
    history = model.train(dataset, None, 0.001, epochs=1, layers="heads").history
    assert np.isfinite(history["loss"]).all()
    assert traced == [(None, None, None, 3)]


def noisy(channels=3):
    """The squares plus noise that spans all gray levels."""
    dataset = Various(*[(64, 64)] * 2, channels=channels)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    load_image = dataset.load_image
    dataset.load_image = lambda image_id: load_image(image_id) + noise
    return dataset


@pytest.mark.parametrize(
    "network, channels, mean",
    [("mask_rcnn", 1, [99.9]), *((network, 3, [123.7, 116.8, 103.9]) for network in KINDS)],
)
def test_uint8_and_molded_images_give_equal_steps(tmp_path, network, channels, mean):
    """Users' loops feed floats from `DataGenerator`, `train` feeds uint8."""
    found = []
    settings = {"IMAGE_CHANNEL_COUNT": channels, "MEAN_PIXEL": np.array(mean)}
    settings["IMAGE_RESIZE_MODE"] = "square"  # torchvision's interpolates, to floats
    for kind, dtype in ((DataGenerator, np.float32), (Batches, np.uint8)):
        model = build(tmp_path, network=network, **settings)
        inputs, _ = kind(noisy(channels), model.config, batch_size=2, seed=1)[0]
        unit = model.config.STD_PIXEL if dtype == np.float32 else 1
        assert inputs[0].dtype == dtype and np.ptp(inputs[0] * unit) > 250
        model.compile(0.01, 0.9)
        inputs, made = list(inputs), model.keras_model
        steps = [made.test_on_batch(inputs, return_dict=True)]
        steps += [made.train_on_batch(inputs, return_dict=True) for _ in range(2)]
        names = ("loss", *parts_of(model))
        found.append([[float(step[name]) for name in names] for step in steps])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert found[0][1][0] > found[0][2][0] > 0


@pytest.mark.parametrize(
    "network, channels", [*(("mask_rcnn", channels) for channels in (1, 4, 8)), ("retinanet", 4)]
)
def test_training_with_other_channels_from_rgb_weights(tmp_path, network, channels):
    build(tmp_path, network=network).save_weights(tmp_path / "rgb.h5")
    model = build(
        tmp_path,
        network=network,
        IMAGE_CHANNEL_COUNT=channels,
        MEAN_PIXEL=np.full(channels, 110.0),
        STD_PIXEL=np.full(channels, 1.0),
        STEPS_PER_EPOCH=1,
    )
    report = model.load_weights(tmp_path / "rgb.h5")
    assert report.adapted == [("res1a_conv", (3, 3, 3, 24), (3, 3, channels, 24))]
    history = model.train(
        Various(*[(64, 64)] * 4, channels=channels), None, 0.001, epochs=1, layers="all"
    ).history
    assert np.isfinite(history["loss"][0]) and history[model.config.loss_names()[1]][0] > 0
