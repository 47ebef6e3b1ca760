"""The network against numbers recorded from a port of matterport's: stages, detection, training.

Each stage is cut out of the network and fed the recorded inputs of that stage, so no error of an
earlier one
affects it: a difference is caused by the arithmetic of this stage only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import test_util

from mrcnn.config import Config
from mrcnn.data.masks import masks_iou
from mrcnn.model import MaskRCNN
from mrcnn.nn import boxes, targets

ROOT = Path(__file__).parents[1]
STAGES = ["res2c_out", "res3d_out", "res4f_out", "res5c_out"]
PYRAMID = ["fpn_p2", "fpn_p3", "fpn_p4", "fpn_p5", "fpn_p6"]
OUTPUTS = [
    "detections",
    "mrcnn_class",
    "mrcnn_bbox",
    "mrcnn_mask",
    "rpn_rois",
    "rpn_class",
    "rpn_bbox",
]
LOSSES = [
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
]
TOLERANCE = 1e-4  # of the largest value of a tensor


def assert_near(ours, recorded, tolerance=TOLERANCE):
    """max |a - b| / max |b| within the tolerance."""
    ours, recorded = np.asarray(ours), np.asarray(recorded)
    assert ours.shape == recorded.shape
    assert np.abs(ours - recorded).max() <= tolerance * np.abs(recorded).max()


def config_of(archive, **changes):
    config = Config.from_dict(json.loads(str(archive["config_json"])))
    for name, value in {"EXACT_RESIZE": True, **changes}.items():
        setattr(config, name, value)
    return config


@pytest.fixture(scope="session")
def archives(shared):
    """`archives("inference_0")`: the recorded arrays of that name, read once."""
    read = {}

    def archive(name):
        if name not in read:
            with np.load(shared / "reference" / f"{name}.npz") as file:
                read[name] = {key: file[key] for key in file.files}
        return read[name]

    return archive


@pytest.fixture(scope="session")
def model(archives, reference_weights, tmp_path_factory):
    model = MaskRCNN(
        "inference", config_of(archives("inference_0")), tmp_path_factory.mktemp("logs")
    )
    model.load_weights(reference_weights)
    return model


@pytest.fixture(scope="session")
def trained(archives, reference_weights, tmp_path_factory):
    model = MaskRCNN(
        "training", config_of(archives("training_full_masks")), tmp_path_factory.mktemp("logs")
    )
    model.load_weights(reference_weights)
    return model


@pytest.fixture
def use_config(model):
    """`use_config(archive)` gives the one model another archive's settings for one test."""
    before = model.config.to_dict()

    def use(archive):
        for name, value in json.loads(str(archive["config_json"])).items():
            if name not in ("BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"):
                setattr(
                    model.config,
                    name,
                    np.array(value) if name.endswith(("STD_DEV", "PIXEL")) else value,
                )
        return model

    yield use
    for name, value in before.items():
        if name not in ("BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"):
            setattr(
                model.config,
                name,
                np.array(value) if name.endswith(("STD_DEV", "PIXEL")) else value,
            )


def cut(model, inputs, outputs):
    """The part of the network between tensors, given by the names of their layers."""
    tensor = lambda name: model.keras_model.get_layer(name).output  # noqa: E731
    return keras.Model([tensor(name) for name in inputs], [tensor(name) for name in outputs])


def run(part, inputs):
    return [
        np.asarray(output)
        for output in part([tf.cast(x, "float32") for x in inputs], training=False)
    ]


# --- Inference, stage by stage, image 0 -----------------------------------------------------------


def test_molded_inputs(model, archives):
    recorded = archives("inference_0")
    molded, metas, windows = model.mold_inputs([recorded["photo"]])
    assert_near(molded, recorded["molded_images"], 1e-6)
    np.testing.assert_allclose(metas, recorded["image_metas"], rtol=1e-12)
    np.testing.assert_array_equal(windows, recorded["windows"])
    np.testing.assert_allclose(
        model.get_anchors(molded.shape[1:]), recorded["anchors"][0], rtol=0, atol=1e-7
    )
    np.testing.assert_array_equal(model.anchors, recorded["anchors_pixel"])


def test_backbone(model, archives):
    recorded = archives("stages_0")
    found = run(cut(model, ["input_image"], STAGES), [archives("inference_0")["molded_images"]])
    for name, values in zip(STAGES, found, strict=True):
        assert_near(values, recorded[name])


def test_pyramid(model, archives):
    recorded = archives("stages_0")
    found = run(cut(model, STAGES, PYRAMID), [recorded[name] for name in STAGES])
    for name, values in zip(PYRAMID, found, strict=True):
        assert_near(values, recorded[name])


def test_region_proposal_network(model, archives):
    names = ["rpn_class", "rpn_bbox"]
    found = run(cut(model, PYRAMID, names), [archives("stages_0")[name] for name in PYRAMID])
    for name, values in zip(names, found, strict=True):
        assert_near(values, archives("inference_0")[name])


@pytest.mark.parametrize(
    "name", ["inference_0", "inference_1", "inference_batch2", "inference_pad64"]
)
def test_proposals(model, archives, name):
    recorded = archives(name)
    proposals = model.keras_model.get_layer("ROI")(
        [tf.constant(recorded[key]) for key in ("rpn_class", "rpn_bbox", "anchors")]
    )
    assert_near(proposals, recorded["rpn_rois"])


def test_classifier_head(model, archives):
    recorded, stages = archives("inference_0"), archives("stages_0")
    names = ["roi_align_classifier", "mrcnn_class_logits", "mrcnn_class", "mrcnn_bbox"]
    inputs = [
        recorded["rpn_rois"],
        recorded["image_metas"],
        *(stages[level] for level in PYRAMID[:4]),
    ]
    found = run(cut(model, ["ROI", "input_image_meta", *PYRAMID[:4]], names), inputs)
    assert_near(found[0][:, :40], stages["roi_align_classifier"])
    assert_near(found[1], stages["mrcnn_class_logits"])
    assert_near(found[2], recorded["mrcnn_class"])
    assert_near(found[3], recorded["mrcnn_bbox"])


@pytest.mark.parametrize(
    "name", ["inference_0", "inference_1", "inference_batch2", "inference_pad64", "inference_none"]
)
def test_detection_layer(use_config, archives, name):
    recorded = archives(name)
    layer = use_config(recorded).keras_model.get_layer("mrcnn_detection")
    keys = ("rpn_rois", "mrcnn_class", "mrcnn_bbox", "image_metas")
    found = np.asarray(layer([tf.constant(recorded[key], "float32") for key in keys]))
    assert found.shape == recorded["detections"].shape
    np.testing.assert_array_equal(
        found[..., 4], recorded["detections"][..., 4]
    )  # classes, and how many
    np.testing.assert_allclose(found, recorded["detections"], rtol=0, atol=1e-6)


def test_mask_head(model, archives):
    recorded, stages = archives("inference_0"), archives("stages_0")
    names = ["roi_align_mask", "mrcnn_mask_deconv", "mrcnn_mask"]
    inputs = [
        recorded["detections"],
        recorded["image_metas"],
        *(stages[level] for level in PYRAMID[:4]),
    ]
    found = run(cut(model, ["mrcnn_detection", "input_image_meta", *PYRAMID[:4]], names), inputs)
    assert_near(found[0][:, :40], stages["roi_align_mask"])
    assert_near(found[1][:, :4], stages["mrcnn_mask_deconv"])
    assert_near(found[2], recorded["mrcnn_mask"])


@pytest.mark.parametrize(
    "name", ["inference_1", "inference_batch2", "inference_pad64", "inference_none"]
)
def test_heads_of_other_images(use_config, archives, name):
    """RPN from the molded images, class and box head from the recorded proposals."""
    recorded = archives(name)
    names = ["rpn_class", "rpn_bbox", "mrcnn_class", "mrcnn_bbox"]
    part = cut(use_config(recorded), ["input_image", "input_image_meta", "ROI"], names)
    found = run(part, [recorded[key] for key in ("molded_images", "image_metas", "rpn_rois")])
    for key, values in zip(names, found, strict=True):
        assert_near(values, recorded[key])


def test_mask_head_of_a_rectangle(model, archives):
    recorded = archives("inference_pad64")
    count = recorded["detections"].shape[1]  # 35; the network has 100 rows
    detections = np.pad(recorded["detections"], [(0, 0), (0, 100 - count), (0, 0)])
    part = cut(
        model, ["input_image", "input_image_meta", "mrcnn_detection"], ["fpn_p2", "mrcnn_mask"]
    )
    _, masks = run(part, [recorded["molded_images"], recorded["image_metas"], detections])
    assert_near(masks[:, :count], recorded["mrcnn_mask"])


# --- End to end -----------------------------------------------------------------------------------


def matched(found, recorded):
    """Index pairs `[K, 2]` of matching detections: class equal, IoU >= 0.95, score within 1e-3."""
    same = boxes.iou(recorded.rois.astype(float), found["rois"].astype(float)) >= 0.95
    same &= recorded.class_ids[:, None] == found["class_ids"][None]
    same &= np.abs(recorded.scores[:, None] - found["scores"][None]) <= 1e-3
    pairs, free = [], np.ones(len(found["rois"]), bool)
    for i, row in enumerate(same):
        candidates = np.flatnonzero(row & free)
        if len(candidates):
            pairs.append((i, candidates[0]))
            free[candidates[0]] = False
    return np.array(pairs, int).reshape(-1, 2)


def test_detect(use_config, archives, eagerly):
    """95 % of the detections over all images, 90 % in each, and their masks."""
    counts = []
    for name, photos, prefix in [
        ("inference_0", ["photo"], "det"),
        ("inference_1", ["photo"], "det"),
        ("inference_batch2", ["photo_0", "photo_1"], "det{}"),
        ("inference_pad64", ["photo_0"], "det{}"),
    ]:
        recorded = archives(name)
        tf.config.run_functions_eagerly(
            name != "inference_0"
        )  # the others need no graphs of their own
        results = use_config(recorded).detect([recorded[photo] for photo in photos])
        assert len(results) == len(photos)
        for i, found in enumerate(results):
            truth = SimpleNamespace(
                **{
                    key: recorded[f"{prefix.format(i)}_{key}"]
                    for key in ("rois", "class_ids", "scores", "masks")
                }
            )
            pairs = matched(found, truth)
            assert len(pairs) >= 0.9 * len(truth.rois), (name, i)
            # no detections of our own invention either
            assert abs(len(found["rois"]) - len(truth.rois)) <= 0.1 * len(truth.rois), (name, i)
            assert found["masks"].shape[:2] == truth.masks.shape[:2]
            for theirs, ours in pairs:
                iou = masks_iou(truth.masks[:, :, [theirs]], found["masks"][:, :, [ours]])
                assert iou[0, 0] >= 0.99 or not truth.masks[:, :, theirs].any(), (
                    name,
                    i,
                    theirs,
                    iou,
                )
            counts.append((len(pairs), len(truth.rois)))
    found, total = np.sum(counts, axis=0)
    assert total == 100 + 100 + 42 + 36 + 35
    assert found >= 0.95 * total


@pytest.mark.parametrize(("exact", "share"), [(False, 0.9), (True, 1.0)])
def test_detect_finds_what_the_original_found(use_config, archives, exact, share):
    """By class and box. OpenCV's resize, rounded in place of truncated, finds 17 of the 200."""
    found, total = 0, 0
    for name in ("inference_0", "inference_1"):
        recorded = archives(name)
        detector = use_config(recorded)
        detector.config.EXACT_RESIZE = exact
        (result,) = detector.detect([recorded["photo"]])
        same = boxes.iou(recorded["det_rois"].astype(float), result["rois"].astype(float)) >= 0.95
        same &= recorded["det_class_ids"][:, None] == result["class_ids"][None]
        found, total = found + same.any(axis=1).sum(), total + len(same)
    assert total == 200
    assert found >= share * total, found


def test_detect_nothing(use_config, archives, eagerly):
    recorded = archives("inference_none")
    (found,) = use_config(recorded).detect([recorded["photo_0"]])
    assert [found[key].shape for key in ("rois", "class_ids", "scores")] == [(0, 4), (0,), (0,)]
    assert found["masks"].shape == recorded["det0_masks"].shape == (448, 640, 0)


# --- Training -------------------------------------------------------------------------------------


TRAINING = ["training_full_masks", "training_mini_masks"]


@pytest.mark.parametrize("name", TRAINING)
def test_targets(archives, name):
    """The first candidates are the sample: priorities that fall."""
    recorded = archives(name)
    config = config_of(recorded)
    proposals = tf.constant(recorded["out_rpn_rois"])
    gt_boxes = boxes.normalize(recorded["in_gt_boxes"], (256, 256))
    priorities = tf.broadcast_to(
        tf.linspace(1.0, 0.1, proposals.shape[1])[None], proposals.shape[:2]
    )
    found = targets.detection_targets(
        proposals,
        recorded["in_gt_class_ids"],
        gt_boxes,
        recorded["in_gt_masks"],
        priorities,
        config,
    )
    np.testing.assert_array_equal(found.class_ids, recorded["tgt_class_ids"])
    assert np.sum(recorded["tgt_class_ids"] > 0) == 73
    np.testing.assert_allclose(found.rois, recorded["tgt_rois"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.deltas, recorded["tgt_bbox"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.masks, recorded["tgt_mask"])


@pytest.fixture(scope="session")
def step(trained):
    """`step(archive)`: losses and gradients by name, from recorded inputs and targets."""
    network = trained.keras_model
    rois, *_ = network.get_layer("proposal_targets").output
    names = ["rpn_class_logits", "rpn_bbox", "mrcnn_class_logits", "mrcnn_bbox", "mrcnn_mask"]
    part = keras.Model(
        [*network.inputs[:2], rois], {name: network.get_layer(name).output for name in names}
    )

    def values_and_gradients(inputs, rois, given):
        with tf.GradientTape() as tape:
            outputs = part([*inputs[:2], rois], training=True)
            values = network.weighted_losses(inputs, {**outputs, **given})
        return values, tape.gradient(values["loss"], network.trainable_weights)

    def run_step(recorded):
        inputs = [
            tf.constant(recorded[f"in_{key}"])
            for key in ("images", "image_meta", "rpn_match", "rpn_bbox")
        ]
        inputs[1], inputs[3] = tf.cast(inputs[1], "float32"), tf.cast(inputs[3], "float32")
        keys = {
            "target_class_ids": "tgt_class_ids",
            "target_bbox": "tgt_bbox",
            "target_mask": "tgt_mask",
        }
        given = {name: tf.constant(recorded[key]) for name, key in keys.items()}
        values, gradients = values_and_gradients(inputs, tf.constant(recorded["tgt_rois"]), given)
        names = [
            "/".join(variable.path.split("/")[-2:]) + ":0" for variable in network.trainable_weights
        ]
        return values, dict(zip(names, gradients, strict=True))

    return run_step


def with_onednn(test):
    """Run a test of this file again, in a process where TensorFlow takes oneDNN's operations."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", test]
    again = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"},
        text=True,
        capture_output=True,
    )
    assert again.returncode == 0 and "1 passed" in again.stdout, (
        again.stdout[-5000:] + again.stderr[-2000:]
    )


@pytest.mark.parametrize("name", TRAINING)
def test_losses_and_gradients(request, trained, step, archives, name):
    """If TensorFlow computes without oneDNN, a process with oneDNN computes the gradients.

    With it they were recorded. Other convolutions round otherwise, and a ReLU within rounding of 0
    opens or closes: images times 1 + 1e-7 change gradients by up to 4e-3.
    """
    recorded = archives(name)
    assert recorded["tgt_class_ids"][:, targets.positive_slots(trained.config) :].max() == 0
    values, gradients = step(recorded)
    for loss in LOSSES:
        np.testing.assert_allclose(values[loss], recorded[f"out_{loss}"], rtol=1e-5, err_msg=loss)
    np.testing.assert_allclose(values["weight_decay"], recorded["reg_loss"], rtol=1e-5)
    np.testing.assert_allclose(values["loss"], recorded["total_loss"], rtol=1e-5)

    if not test_util.IsMklEnabled() and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "1":
        with_onednn(request.node.nodeid)
        return
    assert sorted(gradients) == sorted(str(name) for name in recorded["grad_names"])
    assert len(gradients) == 266
    norms = [float(tf.norm(gradients[str(name)])) for name in recorded["grad_names"]]
    np.testing.assert_allclose(
        norms, recorded["grad_norms"], rtol=1e-3, atol=1e-6 * recorded["grad_norms"].max()
    )
    for key in recorded:
        if key.startswith("grad:"):
            assert_near(gradients[key.removeprefix("grad:")], recorded[key], 1e-3)


# --- The weight file and back ---------------------------------------------------------------------


def test_round_trip_is_bit_equal(model, trained, tmp_path):
    path = tmp_path / "again.h5"
    model.save_weights(path)
    fresh = MaskRCNN.from_weights(path)
    assert (
        len(fresh.keras_model.weights)
        == len(model.keras_model.weights)
        == len(trained.keras_model.weights)
    )
    for before, after in zip(model.keras_model.weights, fresh.keras_model.weights, strict=True):
        assert before.path == after.path
        np.testing.assert_array_equal(before, after)
