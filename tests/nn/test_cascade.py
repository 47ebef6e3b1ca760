"""The stages of a Cascade R-CNN: their RoIs, targets and losses, and the network that has them."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import CASCADE
from tiny import Squares, TinyConfig, assert_same_results, build, image_meta, keys_of, noise_images
from tiny_training import moved_since, parts_of, values

from mrcnn.model import MaskRCNN
from mrcnn.nn import boxes
from mrcnn.nn.cascade import Stage, StageRoIs, cascade_losses, stage_config

pytestmark = pytest.mark.usefixtures("eagerly")

STAGES = ("", "cascade2_", "cascade3_")  # in the names of layers
# Every kind of class and box head.
HEADS = {
    "2fc": {},
    "4conv1fc, group norm": {"BOX_HEAD": "4conv1fc", "BOX_HEAD_NORM": "group"},
    "boxes only": {"USE_MASK": False, "LOSS_DENOMINATOR": "sampled", "ROI_SAMPLING": "fill"},
    "one box for all classes": {"CLASS_AGNOSTIC_BOX": True},
    "one map": {"BACKBONE_STRIDES": [16]},
}
heads = pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)


def config(**values):
    return TinyConfig(**{**CASCADE, "CONTINUOUS_BOXES": True, **values})


def next_rois(rois, stage=2, deltas=None, probs=None, objects=(), window=None, **settings):
    """The outputs of `StageRoIs` for the RoIs of one image, without the batch axis."""
    rois = np.float32([rois])
    deltas = np.zeros((1, len(rois[0]), 3, 4)) if deltas is None else [deltas]
    probs = np.full((1, len(rois[0]), 3), 1 / 3) if probs is None else [probs]
    settings.setdefault("TRAIN_ROIS_PER_IMAGE", len(rois[0]))
    layer = StageRoIs(config(**settings), stage)
    given = [tf.constant(rois), tf.constant(np.float32(probs)), tf.constant(np.float32(deltas))]
    objects = [tf.constant(values)[None] for values in objects]
    outputs = layer([*given, tf.constant(image_meta(64, 64, window)), *objects])
    return [output.numpy()[0] for output in outputs]


# --- RoIs ---


def test_deviations_are_divided_by_the_stage():
    """detectron2's weights are their inverses: 10 and 5, 20 and 10, 30 and 15."""
    for stage, iou in ((1, 0.5), (2, 0.6), (3, 0.7)):
        found = stage_config(config(), stage)
        np.testing.assert_allclose(1 / found.BBOX_STD_DEV, np.array([10, 10, 5, 5]) * stage)
        assert iou == found.ROI_POSITIVE_IOU
    assert config().BBOX_STD_DEV.tolist() == [0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        # The deltas are of stage 1: center 0.4 + 1 * 0.1 * 0.4 = 0.44,
        # height 0.4 * exp(2 * 0.2) = 0.5967 -> 0.44 -+ 0.2984.
        (2, [0.1416, 0.2, 0.7384, 0.6]),
        # The deltas are of stage 2: 0.4 + 1 * 0.05 * 0.4 = 0.42, 0.4 * exp(2 * 0.1) = 0.4886.
        (3, [0.1757, 0.2, 0.6643, 0.6]),
    ],
)
def test_box_moves_by_the_deltas_of_its_best_object_class(stage, expected):
    deltas = np.zeros((1, 3, 4))
    deltas[0, 2] = [1, 0, 2, 0]
    (found,) = next_rois([[0.2, 0.2, 0.6, 0.6]], stage, deltas, [[0.7, 0.1, 0.2]])
    np.testing.assert_allclose(found, [expected], atol=1e-4)


def test_deltas_of_all_classes_need_no_best_class():
    deltas = np.float32([[[1, 0, 2, 0]]])
    (found,) = next_rois([[0.2, 0.2, 0.6, 0.6]], 2, deltas, [[0.7, 0.1, 0.2]])
    np.testing.assert_allclose(found, [[0.1416, 0.2, 0.7384, 0.6]], atol=1e-4)


def test_boxes_are_clipped_to_the_image_and_those_outside_become_padding():
    rois = [[0.1, 0.1, 0.5, 0.5], [0.0, 0.0, 0.2, 1.0], [0.0, 0.0, 0.0, 0.0]]
    (found,) = next_rois(rois, window=(16, 0, 48, 64))  # rows 0.25 to 0.75 of the padded image
    np.testing.assert_allclose(found, [[0.25, 0.1, 0.5, 0.5], [0] * 4, [0] * 4], atol=1e-6)


def test_no_gradient_reaches_the_stage_before():
    deltas = tf.Variable(tf.zeros([1, 1, 3, 4]))
    rois, probs = tf.constant([[[0.2, 0.2, 0.6, 0.6]]]), tf.fill([1, 1, 3], 1 / 3)
    with tf.GradientTape() as tape:
        (found,) = StageRoIs(config(), 2)([rois, probs, deltas, image_meta(64, 64)])
        total = tf.reduce_sum(found)
    assert tape.gradient(total, deltas) is None


# --- Targets ---

GT = [0.0, 0.0, 0.5, 1.0]
OBJECTS = np.int32([2, 0]), np.float32([GT, [0.0] * 4])


@pytest.mark.parametrize(
    ("width", "stages"), [(0.55, ()), (0.65, (2,)), (0.75, (2, 3)), (1.0, (2, 3))]
)
def test_roi_is_positive_from_the_iou_of_the_stage(width, stages):
    """A RoI of the object's height inside it: its IoU is its width; 0.6 in stage 2, 0.7 in 3."""
    for stage in (2, 3):
        rois, class_ids, deltas = next_rois([[0.0, 0.0, 0.5, width]], stage, objects=OBJECTS)
        np.testing.assert_allclose(rois, [[0.0, 0.0, 0.5, width]], atol=1e-6)
        assert class_ids.tolist() == [2 if stage in stages else 0]
        if stage in stages:
            # (0.5 - width / 2) / width and log(1 / width), by 0.1 / stage and 0.2 / stage
            dx, dw = (0.5 - width / 2) / width / 0.1, math.log(1 / width) / 0.2
            np.testing.assert_allclose(deltas, [[0, dx * stage, 0, dw * stage]], atol=1e-4)
        else:
            assert not deltas.any()


def test_every_roi_trains_positives_first_and_padding_last():
    """Two of three are positive, more than ROI_POSITIVE_RATIO allows in the first stage."""
    rois = [[0.6, 0, 1, 1], [0] * 4, [0, 0, 0.5, 0.9], GT]
    found, class_ids, _ = next_rois(rois, objects=OBJECTS)
    assert class_ids.tolist() == [2, 2, 0, 0]
    np.testing.assert_allclose(found, np.float32([rois[i] for i in (2, 3, 0, 1)]), atol=1e-6)


def test_rois_in_a_crowd_become_padding():
    objects = np.int32([2, -1]), np.float32([GT, [0.5, 0.0, 1.0, 1.0]])
    found, class_ids, _ = next_rois([[0.6, 0, 1, 1], GT], objects=objects)
    assert class_ids.tolist() == [2, 0]
    np.testing.assert_allclose(found, np.float32([GT, [0] * 4]), atol=1e-6)


# --- Losses ---


def outputs_of(stage):
    return {"cascade2": stage, "cascade3": stage}


def test_losses_of_a_stage_ignore_its_padding():
    """The positive's logits are (0, log 2, 0): -log(2 / 4); its deltas differ by 0.5 in one of 4.

    The background's logits are 0: log 3. Smooth L1: 0.5 * 0.5^2 = 0.125.
    """
    rois = tf.constant([[GT, [0.6, 0.0, 1.0, 1.0], [0.0] * 4]])
    logits = tf.constant([[[0.0, math.log(2), 0.0], [0.0] * 3, [9.0, 0.0, 0.0]]])
    deltas = tf.constant(np.float32([[[[0.5, 0, 0, 0]]] * 3]))
    stage = Stage(rois, logits, None, deltas, tf.constant([[1, 0, 0]]), tf.zeros([1, 3, 4]))
    meta = image_meta(64, 64)
    meta[:, 12:] = 1  # every class is active
    for denominator, box_count in (("positives", 4), ("sampled", 2)):
        found = cascade_losses(outputs_of(stage), meta, config(LOSS_DENOMINATOR=denominator))
        assert list(found) == [f"mrcnn_{k}_loss/{s}" for s in (2, 3) for k in ("class", "bbox")]
        total, count = found["mrcnn_class_loss/2"]
        assert (float(total), float(count)) == (pytest.approx(math.log(2) + math.log(3)), 2)
        total, count = found["mrcnn_bbox_loss/3"]
        assert (float(total), float(count)) == (pytest.approx(0.125), box_count)


def test_without_a_cascade_there_are_no_later_losses():
    assert cascade_losses({}, image_meta(64, 64), TinyConfig()) == {}


def test_training_adds_the_losses_of_all_stages(tmp_path, monkeypatch):
    """Each stage's sum is divided by its own count; LOSS_WEIGHTS hold for all stages."""
    network = build("cascade", "training", tmp_path, LOSS_WEIGHTS={"mrcnn_class_loss": 2.0})
    network = network.keras_model
    halves = {"mrcnn_class_loss": (6.0, 2.0), "mrcnn_class_loss/2": (4.0, 4.0)}
    halves = {name: tuple(map(tf.constant, pair)) for name, pair in halves.items()}
    monkeypatch.setattr(type(network), "losses", lambda *_: halves)
    # 2 * 6 / 2 + 2 * 4 / 4
    assert float(network.weighted_losses([], {})["mrcnn_class_loss"]) == pytest.approx(8.0)


# --- The network ---


def names_of(model):
    return {layer.name for layer in model.keras_model.layers}


def test_default_network_has_the_layers_of_the_first_stage_only():
    plain, whole = build(), build("cascade")
    later = {name for name in names_of(whole) if "cascade" in name}
    assert not any("cascade" in name for name in names_of(plain))
    weighted = {weight.path for weight in plain.keras_model.weights}
    assert weighted < {weight.path for weight in whole.keras_model.weights}
    for stage in STAGES[1:]:
        named = {name.replace(stage, "") for name in later if stage in name} - {"rois"}
        assert {"mrcnn_class_conv1", "roi_align_classifier", "mrcnn_bbox_fc"} <= named
        assert named <= names_of(plain)


@heads
def test_every_kind_of_head_trains_and_detects(tmp_path, settings):
    model = build("cascade", "training", tmp_path, STEPS_PER_EPOCH=4, **settings)
    before = values(model)
    history = model.train(Squares(), None, 0.003, epochs=3, layers="heads").history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert all(np.isfinite(history[name]).all() for name in parts_of(model))
    moved = {path.split("/")[-2] for path in moved_since(before, model)}
    assert {f"mrcnn_{stage}class_logits" for stage in STAGES} <= moved
    detects = model._make_inference_model()
    report = detects.load_weights(model.find_last())
    assert not report.missing and not report.unused and not report.mismatched
    for result in detects.detect(noise_images(2)):
        assert set(result) == keys_of(detects)


def test_two_images_are_detected_as_each_of_them_is():
    images = noise_images(2)
    both = build("cascade").detect(images)
    single = build("cascade", IMAGES_PER_GPU=1)
    for image, result in zip(images, both, strict=True):
        (expected,) = single.detect([image])
        assert result.count > 3
        np.testing.assert_array_equal(result["class_ids"], expected["class_ids"])
        np.testing.assert_array_equal(result["rois"], expected["rois"])
        np.testing.assert_allclose(result["scores"], expected["scores"], rtol=1e-4)


def test_probabilities_are_the_mean_of_the_stages_and_boxes_are_the_last_ones():
    model = build("cascade")
    network = model.keras_model
    each = [network.get_layer(f"mrcnn_{stage}class").output for stage in STAGES]
    last = network.get_layer("mrcnn_cascade3_bbox").output
    rois = network.get_layer("cascade3_rois").output
    wanted = keras.Model(network.inputs, [*network.outputs[:3], last, rois, *each])
    molded, metas, _ = model.mold_inputs(noise_images(1))
    anchors = model.get_anchors(molded.shape[1:])[None]
    detections, probs, deltas, last, rois, *each = wanted([molded, metas, anchors])
    np.testing.assert_allclose(probs, np.mean(each, axis=0), atol=1e-6)
    np.testing.assert_allclose(deltas, last / 3, rtol=1e-6)
    # The best detection is the box of the RoI with the best mean.
    objects = np.asarray(probs)[0] * (np.argmax(probs, axis=-1) > 0)[0, :, None]
    best = np.unravel_index(np.argmax(objects), objects.shape)
    np.testing.assert_allclose(detections[0, 0, 4:], [best[1], objects[best]], rtol=1e-5)
    step = np.asarray(last)[0, best[0], best[1]] * model.config.BBOX_STD_DEV / 3
    box = boxes.clip(boxes.decode(np.asarray(rois)[0, best[0]], step), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(detections[0, 0, :4], box, atol=1e-5)


def test_file_of_the_plain_network_starts_a_cascade_and_is_refused_for_detection(tmp_path):
    path = tmp_path / "plain.h5"
    build().save_weights(path)
    model = build("cascade", "training", tmp_path, seed=1)
    report = model.load_weights(path)
    assert {name.split("_")[1] for name in report.missing} == {"cascade2", "cascade3"}
    assert not report.mismatched and "mrcnn_bbox_fc" in report.loaded
    with pytest.raises(ValueError, match="The second stage of the cascade must be in the file"):
        build("cascade").load_weights(path)
    build("cascade", CASCADE_IOUS=(0.5, 0.6)).save_weights(tmp_path / "two.h5")
    with pytest.raises(ValueError, match="third stage.*Try fewer CASCADE_IOUS"):
        build("cascade").load_weights(tmp_path / "two.h5")


def test_saved_cascade_detects_the_same_again(tmp_path):
    model = build("cascade", IMAGES_PER_GPU=1)
    model.save_weights(tmp_path / "one.h5")
    again = MaskRCNN.from_weights(tmp_path / "one.h5", TinyConfig(**CASCADE, IMAGES_PER_GPU=1))
    image = noise_images(1)
    (expected,) = model.detect(image)
    assert expected.count > 3
    assert_same_results(again.detect(image)[0], expected)
    again.optimize_for_inference()
    (fused,) = again.detect(image)
    np.testing.assert_array_equal(fused["class_ids"], expected["class_ids"])
    np.testing.assert_allclose(fused["scores"], expected["scores"], atol=1e-4)


def test_classes_are_moved_in_every_stage(tmp_path):
    source = build("cascade", "training", tmp_path)
    source.class_names = ["BG", "light", "dark"]
    source.save_weights(tmp_path / "three.h5")
    target = build("cascade", "training", tmp_path, seed=1, NUM_CLASSES=4)
    report = target.load_weights(tmp_path / "three.h5", remap_classes={"dark": 3})
    assert not report.mismatched
    for name, count in (("mrcnn_cascade3_class_logits", 1), ("mrcnn_cascade2_bbox_fc", 4)):
        own, theirs = (x.keras_model.get_layer(name).kernel.numpy() for x in (target, source))
        np.testing.assert_array_equal(own[:, -count:], theirs[:, -count:])


def test_later_stages_start_as_the_first_does(tmp_path):
    keras.utils.set_random_seed(1)
    settings = TinyConfig(INITIAL_WEIGHTS="detectron2", BOX_HEAD="4conv1fc", **CASCADE)
    network = MaskRCNN("training", settings, tmp_path).keras_model
    for name, deviation in (("class_logits", 0.01), ("bbox_fc", 0.001)):
        for stage in STAGES:
            kernel = network.get_layer(f"mrcnn_{stage}{name}").kernel
            assert float(np.std(kernel)) == pytest.approx(deviation, rel=0.25)
    # A 3x3 kernel of 32 channels: sqrt(2 / (9 * 32)) = 0.083
    kernel = network.get_layer("mrcnn_cascade2_box_conv2").kernel
    assert float(np.std(kernel)) == pytest.approx(0.083, rel=0.05)
