"""The network's shape, its layers' arithmetic, and detection from photo to result."""

import json
import logging
import re
import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as KL
from tiny import Squares, TinyConfig, photos, shake

from mrcnn import model as model_room
from mrcnn.config import Config
from mrcnn.data.image import mold_image
from mrcnn.formats.rle import mask_to_rle
from mrcnn.inference.fuse_batch_norm import BatchNormFusedModel
from mrcnn.model import (
    DetectionLayer,
    MaskRCNN,
    ProposalLayer,
    PyramidAnchors,
    PyramidROIAlign,
    log,
    mobilenet_v2_graph,
    refine_detections_graph,
    resnet_graph,
)
from mrcnn.nn import boxes
from mrcnn.nn.anchors import pyramid_anchors
from mrcnn.nn.image_meta import compose_image_meta
from mrcnn.nn.molding import mold_on_device
from mrcnn.weights.weight_files import read_metadata

pytestmark = pytest.mark.usefixtures("eagerly")


def build(mode="inference", folder="logs", **values):
    return MaskRCNN(mode, TinyConfig(**values), folder)


@pytest.fixture(scope="module")
def model():
    return shake(build())


@pytest.fixture
def config(model):
    """The model's config, as it was again after the test."""
    before = dict(model.config.__dict__)
    yield model.config
    model.config.__dict__.clear()
    model.config.__dict__.update(before)


def same(a, b):
    return all(np.array_equal(a[key], b[key]) for key in ("rois", "class_ids", "scores", "masks"))


# --- The network as built ---------------------------------------------------------------------------------------


def test_inputs_and_outputs_of_inference(model):
    network = model.keras_model
    assert [x.name for x in network.inputs] == ["input_image", "input_image_meta", "input_anchors"]
    assert [tuple(x.shape) for x in network.outputs] == [
        (None, 10, 6),
        (None, 20, 3),
        (None, 20, 3, 4),
        (None, 10, 28, 28, 3),
        (None, 20, 4),
        (None, None, 2),
        (None, None, 4),
    ]


NAMES = [
    "input_image",
    "input_image_meta",
    "fpn_c5p5",
    "fpn_c4p4",
    "fpn_c3p3",
    "fpn_c2p2",
    "fpn_p5upsampled",
    "fpn_p4upsampled",
    "fpn_p3upsampled",
    "fpn_p4add",
    "fpn_p3add",
    "fpn_p2add",
    "fpn_p2",
    "fpn_p3",
    "fpn_p4",
    "fpn_p5",
    "fpn_p6",
    "rpn_model",
    "rpn_class_logits",
    "rpn_class",
    "rpn_bbox",
    "ROI",
    "roi_align_classifier",
    "mrcnn_class_conv1",
    "mrcnn_class_bn1",
    "mrcnn_class_conv2",
    "mrcnn_class_bn2",
    "pool_squeeze",
    "mrcnn_class_logits",
    "mrcnn_class",
    "mrcnn_bbox_fc",
    "mrcnn_bbox",
    "roi_align_mask",
    "mrcnn_mask_conv1",
    "mrcnn_mask_bn1",
    "mrcnn_mask_conv2",
    "mrcnn_mask_bn2",
    "mrcnn_mask_conv3",
    "mrcnn_mask_bn3",
    "mrcnn_mask_conv4",
    "mrcnn_mask_bn4",
    "mrcnn_mask_deconv",
    "mrcnn_mask",
]


def test_layers_have_matterports_names(model):
    names = {layer.name for layer in model.keras_model.layers}
    # the logits serve no output of inference: Keras leaves that layer out, as it did in matterport's
    assert set(NAMES) - {"rpn_class_logits"} | {"mrcnn_detection", "input_anchors"} <= names
    trained = build("training")
    names = {layer.name for layer in trained.keras_model.layers}
    assert (
        set(NAMES) | {"proposal_targets", "input_rpn_match", "input_rpn_bbox", "input_gt_masks"}
        <= names
    )


def test_resnet_names_and_blocks():
    image = keras.Input([None, None, 3])
    c5 = resnet_graph(image, "resnet101", stage5=True)[-1]
    network = keras.Model(image, c5)
    names = {layer.name for layer in network.layers}
    assert {"conv1", "bn_conv1", "res2c_out", "res3d_out", "res4w_out", "res5c_out"} <= names
    stage4 = {f"res4{letter}_out" for letter in "abcdefghijklmnopqrstuvw"}
    assert stage4 == {name for name in names if name.startswith("res4") and name.endswith("_out")}
    assert network.get_layer("conv1").use_bias
    assert [w.shape for w in network.get_layer("conv1").get_weights()] == [(7, 7, 3, 64), (64,)]
    assert network.get_layer("bn_conv1").epsilon == 1e-3


def test_resnet_strides_and_an_unknown_architecture():
    image = keras.Input([128, 192, 3])
    shapes = [tuple(c.shape[1:]) for c in resnet_graph(image, "resnet50", stage5=True)]
    assert shapes == [(32, 48, 64), (32, 48, 256), (16, 24, 512), (8, 12, 1024), (4, 6, 2048)]
    assert resnet_graph(image, "resnet50")[-1] is None
    with pytest.raises(ValueError, match="architecture must be one of.*Received: 'resnet18'"):
        resnet_graph(image, "resnet18")


def test_mobilenet_sees_what_it_was_trained_on():
    """A molded photo is the photo less the mean; MobileNetV2 wants x / 127.5 - 1."""
    config = TinyConfig()
    image = keras.Input([64, 64, 3])
    stages = mobilenet_v2_graph(image, config)
    assert [tuple(c.shape[1:3]) for c in stages] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    scaling = next(
        layer for layer in keras.Model(image, stages).layers if layer.name == "mobilenet_scaling"
    )
    photo = np.array([0.0, 127.5, 255.0])[:, None] * np.ones(3)
    found = scaling(tf.constant(photo - config.MEAN_PIXEL, "float32"))
    np.testing.assert_allclose(found, [[-1] * 3, [0] * 3, [1] * 3], atol=1e-6)


def test_mobilenet_builds_detects_and_freezes_its_batch_norm():
    model = build(BACKBONE="mobilenet_v2")
    assert model.detect(photos(1))[0]["masks"].shape[:2] == (64, 64)
    norms = [x for x in model.keras_model.layers if type(x) is KL.BatchNormalization]
    assert len(norms) == 52 and not any(layer.trainable for layer in norms)


def test_widths_drive_the_network():
    network = build(
        RPN_CHANNELS=28,
        MASK_CHANNELS=36,
        TOP_DOWN_PYRAMID_SIZE=44,
        FPN_CLASSIF_FC_LAYERS_SIZE=52,
        RPN_ANCHOR_RATIOS=[1, 2],
    ).keras_model
    shape = lambda name: tuple(network.get_layer(name).kernel.shape)  # noqa: E731
    assert network.get_layer("rpn_model").get_layer("rpn_conv_shared").kernel.shape == (
        3,
        3,
        44,
        28,
    )
    assert network.get_layer("rpn_model").get_layer("rpn_class_raw").kernel.shape == (
        1,
        1,
        28,
        2 * 2,
    )
    assert shape("fpn_c2p2") == (1, 1, 24, 44)
    assert shape("mrcnn_class_conv1") == (7, 7, 44, 52)
    assert shape("mrcnn_mask_conv1") == (3, 3, 44, 36)
    assert shape("mrcnn_mask_deconv") == (2, 2, 36, 36)
    assert shape("mrcnn_mask") == (1, 1, 36, 3)


@pytest.mark.parametrize("side", [28, 56, 112])
def test_mask_shape_drives_the_mask_head(side):
    model = build(MASK_SHAPE=[side, side], DETECTION_MAX_INSTANCES=2)
    assert model.keras_model.outputs[3].shape == (None, 2, side, side, 3)
    assert model.detect(photos(1))[0]["masks"].shape == (
        64,
        64,
        len(model.detect(photos(1))[0]["rois"]),
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(channels):
    model = build(IMAGE_CHANNEL_COUNT=channels, MEAN_PIXEL=np.full(channels, 100.0))
    assert model.keras_model.inputs[0].shape == (None, None, None, channels)
    assert model.keras_model.get_layer("res1a_conv").kernel.shape == (3, 3, channels, 24)
    (found,) = model.detect(
        [np.random.default_rng(0).integers(0, 255, (50, 60, channels), np.uint8)]
    )
    assert found["masks"].shape[:2] == (50, 60)


def test_rectangles():
    config = TinyConfig()
    config.IMAGE_SHAPE = [64, 128, 3]
    model = shake(MaskRCNN("inference", config))
    found = model.detect(photos(2, sizes=[(40, 90), (200, 150)]))
    assert [r["masks"].shape[:2] for r in found] == [(40, 90), (200, 150)]
    assert len(found[0]["rois"]) > 0
    # P2..P6 of 64 x 128: 16*32 + 8*16 + 4*8 + 2*4 + 1*2 cells, three anchors in each
    assert model.anchors.shape == (3 * (512 + 128 + 32 + 8 + 2), 4)
    molded, metas, windows = model.mold_inputs(photos(1, sizes=[(40, 90)]))
    assert molded.shape == (1, 64, 128, 3)


def test_a_device_scope():
    with tf.device("/cpu:0"):
        model = build()
    assert len(model.detect(photos(1))) == 1


@pytest.mark.parametrize(
    "values, sentence",
    [
        (
            {"BACKBONE": "vgg16"},
            "BACKBONE must be one of resnet50, resnet101, mobilenet_v2 or a callable.*'vgg16'",
        ),
        (
            {"IMAGE_MAX_DIM": 100},
            r"IMAGE_SHAPE: height and width must be multiples of 64.*\[100, 100, 3\]",
        ),
        (
            {"MASK_SHAPE": [30, 30]},
            r"MASK_SHAPE must be MASK_POOL_SIZE \(14\) times 2, 4 or 8.*\[30, 30\]",
        ),
        ({"NUM_CLASSES": 1}, "NUM_CLASSES must count the background"),
        ({"COMPUTE_BACKBONE_SHAPE": None}, "callable BACKBONE needs COMPUTE_BACKBONE_SHAPE"),
    ],
)
def test_a_config_that_fits_no_network(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**values)


def test_an_unknown_mode():
    with pytest.raises(
        ValueError, match="mode must be 'training' or 'inference'. Received: 'test'"
    ):
        build("test")


def test_a_mode_for_each_task(model):
    with pytest.raises(ValueError, match="train.. needs a model in training mode"):
        model.train(None, None, 0.1, 1, "all")
    with pytest.raises(ValueError, match="detect.. needs a model in inference mode"):
        build("training").detect(photos(1))


def test_a_callable_backbone_that_takes_the_image_alone():
    def alone(image):
        x, stages = image, []
        for i in range(5):
            x = KL.Conv2D(24, 3, strides=2, padding="same", activation="relu", name=f"c{i}")(x)
            stages.append(x)
        return stages

    assert build(BACKBONE=alone).keras_model.get_layer("c4").kernel.shape == (3, 3, 24, 24)


def test_a_type_error_inside_a_callable_backbone_is_its_own():
    def broken(image, stage5, train_bn):
        return len(5)

    with pytest.raises(TypeError, match="has no len"):
        build(BACKBONE=broken)


# --- Layers -----------------------------------------------------------------------------------------------------


def meta(height, width, window=None):
    window = window or (0, 0, height, width)
    return np.float32(
        compose_image_meta(0, (height, width, 3), (height, width, 3), window, 1.0, np.zeros(3))
    )[None]


def test_roi_align_chooses_the_level_by_size():
    """FPN, equation 1: k = 4 + log2(sqrt(w h) / 224), rounded, in 2..5. In an image of 1024 x 1024 pixels."""
    layer = PyramidROIAlign([7, 7], 224.0)
    sides = [1.0, 50.0, 111.9, 150.0, 224.0, 316.0, 318.0, 448.0, 640.0, 1024.0]
    # P2 up to 224 / 4 * sqrt(2) = 79.2, P3 up to 158.4, P4 up to 316.8, then P5
    expected = [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    rois = np.float32([[0, 0, side / 1024, side / 1024] for side in sides])
    np.testing.assert_array_equal(layer.levels(tf.constant(rois), 1024.0 * 1024.0, 4), expected)
    # a long thin RoI counts by its area: 56 x 896 is as large as 224 x 224; padding has none
    thin = np.float32([[0, 0, 56 / 1024, 896 / 1024], [0, 0, 0, 0]])
    np.testing.assert_array_equal(layer.levels(tf.constant(thin), 1024.0 * 1024.0, 4), [2, 0])


def test_roi_align_crops_the_level_of_each_roi():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 64 // 2**i, 64 // 2**i, 3)).astype(np.float32) for i in range(4)]
    # in 256 x 256 pixels, canonical 64: sides 12 -> P2, 32 -> P3, 64 -> P4, 200 -> P5
    rois = np.float32([[0.1, 0.2, 0.1 + s / 256, 0.2 + s / 256] for s in (200, 12, 64, 32)])
    rois = np.stack([rois, rois[::-1] * 0.99])
    found = PyramidROIAlign([3, 5], 64.0)([rois, meta(256, 256).repeat(2, axis=0), *maps])
    assert found.shape == (2, 4, 3, 5, 3)
    for image, levels in enumerate([(3, 0, 2, 1), (1, 2, 0, 3)]):
        for i, level in enumerate(levels):
            crop = tf.image.crop_and_resize(maps[level], rois[image, i : i + 1], [image], (3, 5))
            np.testing.assert_array_equal(found[image, i], crop[0])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (64, 192)])
def test_anchors_of_any_size_are_those_of_the_generator(shape, stride):
    config = TinyConfig(RPN_ANCHOR_STRIDE=stride, RPN_ANCHOR_RATIOS=[0.5, 1])
    sides = config.COMPUTE_BACKBONE_SHAPE(shape)
    found = PyramidAnchors(config)(
        [np.zeros((2, *shape, 3)), *(np.zeros((2, *side, 1)) for side in sides)]
    ).numpy()
    expected = boxes.normalize(pyramid_anchors(config, shape), shape)
    assert found.dtype == np.float32 and found.shape == (2, *expected.shape)
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_the_rpn_looks_at_as_many_levels_as_there_are_scales(count, tmp_path):
    scales, places = (8, 16, 32, 48)[:count], (16 * 16, 8 * 8, 4 * 4, 2 * 2)[:count]
    model = shake(build(RPN_ANCHOR_SCALES=scales))
    model.save_weights(tmp_path / "few.h5")
    assert model.get_anchors((64, 64)).shape == (3 * sum(places), 4)
    (found,) = model.detect(photos(1))
    assert len(found["rois"])
    for mode in ("square", "pad64"):
        trained = build("training", tmp_path, RPN_ANCHOR_SCALES=scales, IMAGE_RESIZE_MODE=mode)
        report = trained.load_weights(tmp_path / "few.h5")
        assert not report.mismatched and not report.missing
        history = trained.train(Squares(), Squares(), 1e-3, 1, "all")
        assert np.isfinite(history.history["loss"]).all()
    five = build()
    report = five.load_weights(tmp_path / "few.h5")  # the levels share the RPN's weights
    assert not report.mismatched and not report.missing


def test_the_size_of_the_input_is_open_where_photos_keep_theirs():
    masks = [
        build("training", IMAGE_RESIZE_MODE=mode, USE_MINI_MASK=mini).keras_model.inputs[6].shape
        for mode, mini in (("square", False), ("pad64", False), ("none", True))
    ]
    assert masks == [(None, 64, 64, None), (None, None, None, None), (None, 56, 56, None)]


def test_proposals_by_hand():
    config = TinyConfig(PRE_NMS_LIMIT=3)
    anchors = np.float32(
        [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.55], [0.5, 0.5, 1.0, 1.0], [0.5, 0.0, 0.7, 0.2]]
    )
    deltas = np.zeros((1, 4, 4), np.float32)
    deltas[0, 2] = [2.0, 0.0, 0.0, 0.0]  # dy = 2 * 0.1 of a height of 0.5: 0.1 down, then cut at 1
    probs = np.float32([[0.3, 0.7], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])[None]
    layer = ProposalLayer(4, 0.7, config)
    found = layer([probs, deltas, anchors[None]])
    # best 0.9; next 0.8; then 0.7, whose IoU with the first is 0.25 / 0.275 = 0.91; the fourth is beyond the limit
    np.testing.assert_allclose(
        found[0], [anchors[1], [0.6, 0.5, 1.0, 1.0], [0] * 4, [0] * 4], atol=1e-6
    )


def numpy_detections(rois, probs, deltas, window, config):
    """The detections of one image, once more, in plain numpy."""
    class_ids = probs.argmax(axis=1)
    scores = probs.max(axis=1)
    own = deltas[np.arange(len(rois)), class_ids] * config.BBOX_STD_DEV
    refined = boxes.clip(boxes.decode(rois, own), np.asarray(window))
    rows = []
    for class_id in range(1, probs.shape[1]):
        ours = np.flatnonzero((class_ids == class_id) & (scores >= config.DETECTION_MIN_CONFIDENCE))
        kept = boxes.non_max_suppression(
            refined[ours], scores[ours], config.DETECTION_NMS_THRESHOLD
        )
        rows += [[*refined[i], class_id, scores[i]] for i in ours[kept]]
    rows = sorted(rows, key=lambda row: -row[5])[: config.DETECTION_MAX_INSTANCES]
    return np.array(rows + [[0] * 6] * (config.DETECTION_MAX_INSTANCES - len(rows)))


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.7])
def test_detection_layer_equals_numpy(confidence):
    config = TinyConfig(DETECTION_MIN_CONFIDENCE=confidence)
    rng = np.random.default_rng(1)
    corner, size = rng.uniform(0, 0.6, (2, 40, 2)), rng.uniform(0.1, 0.4, (2, 40, 2))
    rois = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    probs = rng.dirichlet([0.5] * 3, (2, 40)).astype(np.float32)
    deltas = rng.normal(0, 1, (2, 40, 3, 4)).astype(np.float32)
    metas = np.concatenate([meta(64, 64), meta(64, 64, window=(8, 0, 56, 64))])
    found = np.asarray(DetectionLayer(config)([rois, probs, deltas, metas]))
    windows = [(0, 0, 1, 1), boxes.normalize(np.array([[8, 0, 56, 64]]), (64, 64))[0]]
    for i, window in enumerate(windows):
        expected = numpy_detections(rois[i], probs[i], deltas[i], window, config)
        assert (expected[:, 4] > 0).sum() >= 5
        np.testing.assert_allclose(found[i], expected, atol=1e-6)
        alone = refine_detections_graph(rois[i], probs[i], deltas[i], np.float32(window), config)
        np.testing.assert_array_equal(alone, found[i])


def test_detection_layer_of_background_alone_is_empty():
    probs = np.zeros((1, 5, 3), np.float32)
    probs[..., 0] = 0.9
    rois = np.tile(np.float32([0, 0, 1, 1]), (1, 5, 1))
    found = DetectionLayer(TinyConfig())(
        [rois, probs, np.zeros((1, 5, 3, 4), np.float32), meta(64, 64)]
    )
    assert not np.any(found)


def test_wild_weights_give_boxes_inside_the_image():
    """Deltas beyond what a float32 can exponentiate, as of a training that diverged."""
    deltas = np.full((1, 4, 4), 1e4, np.float32)
    anchors = np.tile(np.float32([0.2, 0.2, 0.4, 0.4]), (1, 4, 1))
    found = ProposalLayer(4, 0.7, TinyConfig())(
        [np.full((1, 4, 2), 0.5, np.float32), deltas, anchors]
    )
    assert np.isfinite(found).all() and np.max(found) <= 1 and np.min(found) >= 0
    rois = tf.constant([[np.nan] * 4, [0.0, 0.0, np.inf, 1.0]])
    assert set(np.asarray(PyramidROIAlign([7, 7]).levels(rois, 4096.0, 4))) <= {0, 1, 2, 3}


# --- Detect -----------------------------------------------------------------------------------------------------


def test_detect_nothing_to_look_at(model):
    assert model.detect([]) == []


@pytest.mark.parametrize("count", [1, 3])
def test_detect_any_number_of_any_size(model, count):
    images = photos(count, sizes=[(64, 64), (30, 90), (150, 70)])
    found = model.detect(images)
    assert len(found) == count
    for image, result in zip(images, found, strict=True):
        n = len(result["rois"])
        assert n > 0
        assert result["rois"].shape == (n, 4) and result["rois"].dtype == np.int32
        assert result["class_ids"].shape == (n,) and result["class_ids"].dtype == np.int32
        assert result["scores"].shape == (n,) and result["scores"].dtype == np.float32
        assert result["masks"].shape == (*image.shape[:2], n) and result["masks"].dtype == bool
        assert (np.diff(result["scores"]) <= 0).all()
        assert (result["class_ids"] > 0).all()
        y1, x1, y2, x2 = result["rois"].T
        assert (
            (y1 >= 0).all()
            and (x1 >= 0).all()
            and (y2 <= image.shape[0]).all()
            and (x2 <= image.shape[1]).all()
        )
        for i in range(n):  # nothing outside its box
            outside = result["masks"][:, :, i].copy()
            outside[y1[i] : y2[i], x1[i] : x2[i]] = False
            assert not outside.any()


def test_a_batch_of_two_is_two_of_one(model, compiled):
    images = photos(2)
    molded, metas, _ = model.mold_inputs(images)
    anchors = np.broadcast_to(model.get_anchors((64, 64)), (2, 1023, 4))
    for see, count in ((model.predict, 3), (model.keras_model.predict_on_batch, 7)):
        together = see([molded, metas, anchors])
        assert len(together) == count
        for i in range(2):
            alone = see([molded[i : i + 1], metas[i : i + 1], anchors[:1]])
            for both, one in zip(together, alone, strict=True):
                np.testing.assert_allclose(both[i], one[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("values", [{}, {"CLASS_AGNOSTIC_MASK": True}])
@pytest.mark.parametrize("optimized", [False, True])
def test_detect_sees_the_masks_of_the_own_classes(values, optimized):
    model = shake(build(DETECTION_NMS_THRESHOLD=0.9, **values))
    molded, metas, _ = model.mold_inputs(photos(2))
    inputs = [molded, metas, model._batch_of_anchors(molded).numpy()]
    probs = model.keras_model(inputs, training=False)[1].numpy()
    logits = model.keras_model.get_layer("mrcnn_class_logits")
    kernel, bias = logits.get_weights()
    gain = float(np.median(np.log(probs[..., 2] / probs[..., 1])))
    logits.set_weights([kernel, bias + [-99.0, gain, 0.0]])  # neither class wins everywhere
    if optimized:
        model.optimize_for_inference()
    detections, probs, masks = model.predict(inputs)
    every = (BatchNormFusedModel(model.keras_model) if optimized else model.keras_model)(inputs)
    np.testing.assert_allclose(detections, every[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probs, every[1], rtol=1e-5, atol=1e-5)
    class_ids = detections[..., 4].astype(int)
    assert set(class_ids.ravel().tolist()) >= {1, 2}
    own = np.zeros_like(class_ids) if "CLASS_AGNOSTIC_MASK" in values else class_ids
    expected = np.take_along_axis(every[3].numpy(), own[:, :, None, None, None], axis=-1)
    np.testing.assert_allclose(masks, expected, atol=1e-5)


def test_detections_of_two_are_those_of_each(model):
    images = photos(2)
    assert model.config.BATCH_SIZE == 2
    for both, image in zip(model.detect(images), images, strict=True):
        (alone,) = model.detect([image])
        np.testing.assert_array_equal(both["class_ids"], alone["class_ids"])
        np.testing.assert_array_equal(both["rois"], alone["rois"])
        np.testing.assert_allclose(both["scores"], alone["scores"], rtol=1e-5)


def test_a_generator_is_read_as_the_network_gets_to_it(model, monkeypatch):
    images, read, seen = photos(7, sizes=[(64, 64), (40, 90)]), [], []
    predict = model.predict
    monkeypatch.setattr(
        model, "predict", lambda inputs: seen.append((len(inputs[0]), len(read))) or predict(inputs)
    )

    def reading():
        for image in images:
            read.append(image)
            yield image

    found = model.detect(reading(), batch_size=3)
    assert [batch for batch, _ in seen] == [3, 3, 1]
    # no further than the photos that follow those in the network
    assert all(3 * (i + 1) <= count <= 3 * (i + 2) for i, (_, count) in enumerate(seen[:2]))
    for one, expected in zip(found, model.detect(images, batch_size=3), strict=True):
        assert same(one, expected)


def test_an_error_of_the_generator_arrives(model):
    def failing():
        yield from photos(2)
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="the camera is gone"):
        model.detect(failing())


def test_masks_in_their_boxes_and_as_codes_are_the_full_ones(model):
    (full,) = model.detect(photos(1, sizes=[(90, 60)]))
    (crop,) = model.detect(photos(1, sizes=[(90, 60)]), masks="crop")
    (rle,) = model.detect(photos(1, sizes=[(90, 60)]), masks="rle")
    assert len(full["rois"]) == len(crop["masks"]) == len(rle["masks"]) == 10
    for i, (y1, x1, y2, x2) in enumerate(full["rois"]):
        mask = full["masks"][:, :, i]
        np.testing.assert_array_equal(crop["masks"][i], mask[y1:y2, x1:x2])
        assert rle["masks"][i] == mask_to_rle(mask)
    for name in ("rois", "class_ids", "scores"):
        np.testing.assert_array_equal(crop[name], full[name])
        np.testing.assert_array_equal(rle[name], full[name])


@pytest.mark.parametrize("shape", [(30, 50, 3), (30, 50), (4, 30, 50)])
def test_one_photo_without_brackets(model, shape):
    for look in (model.detect, model.mold_inputs):
        with pytest.raises(
            ValueError, match=r"must be a list of photos.*Received: an array.*\[image\]"
        ):
            look(np.zeros(shape, np.uint8))


def test_wrong_words_for_detect(model):
    with pytest.raises(
        ValueError, match="masks must be one of full, crop, rle. Received: 'polygon'"
    ):
        model.detect(photos(1), masks="polygon")
    with pytest.raises(ValueError, match="batch_size must be at least 1. Received: 0"):
        model.detect(photos(1), batch_size=0)


def test_verbose_tells_the_milliseconds_of_each_step(model, capsys):
    model.detect(iter(photos(3)), verbose=1, batch_size=2)
    text = capsys.readouterr().out
    assert text.startswith("Processing images\n")
    steps = re.findall(
        r"^Preparing (\d+) ms, network (\d+) ms, finishing (\d+) ms$", text, re.MULTILINE
    )
    assert len(steps) == 2 and all(int(network) > 0 for _, network, _ in steps)


def most_overlap(result):
    """The largest IoU of two detections of one class."""
    same_class = result["class_ids"][:, None] == result["class_ids"][None]
    overlaps = boxes.iou(result["rois"], result["rois"]) * same_class
    return (overlaps - np.eye(len(overlaps))).max()


def test_thresholds_take_effect_at_the_next_detect(model, config, compiled):
    image = photos(1, seed=2, sizes=[(640, 640)])  # large: a box is rounded to its pixels
    everything = model.detect(image)[0]
    config.DETECTION_MIN_CONFIDENCE = float(np.median(everything["scores"]))
    fewer = model.detect(image)[0]
    assert 0 < len(fewer["scores"]) < len(everything["scores"])
    assert (fewer["scores"] >= config.DETECTION_MIN_CONFIDENCE).all()
    config.DETECTION_MIN_CONFIDENCE = 0.0
    config.DETECTION_MAX_INSTANCES = 2
    assert len(model.detect(image)[0]["scores"]) == 2
    config.DETECTION_MAX_INSTANCES = 10
    config.DETECTION_NMS_THRESHOLD = 0.01
    assert most_overlap(everything) > 0.1 >= most_overlap(model.detect(image)[0])
    config.DETECTION_NMS_THRESHOLD = 0.3
    assert same(model.detect(image)[0], everything)


def test_nothing_found_has_its_shapes_and_says_why(model, config, capsys):
    image = photos(1, sizes=[(30, 50)])
    best = model.detect(image)[0]
    config.DETECTION_MIN_CONFIDENCE = threshold = float(best["scores"][0]) + 1e-4
    (found,) = model.detect(image, verbose=1)
    assert [found[key].shape for key in ("rois", "class_ids", "scores", "masks")] == [
        (0, 4),
        (0,),
        (0,),
        (30, 50, 0),
    ]
    text = capsys.readouterr().out
    assert f"the best score was {best['scores'][0]:.3f} (class {best['class_ids'][0]})" in text
    assert f"DETECTION_MIN_CONFIDENCE = {threshold}" in text


def test_detect_is_silent_unless_asked(model, capsys):
    model.detect(photos(1))
    assert capsys.readouterr().out == ""
    model.detect(photos(1), verbose=1)
    assert "Processing 1 images" in capsys.readouterr().out


def test_detect_takes_grey_rgba_and_sixteen_bit(model):
    grey = photos(1)[0][:, :, 0]
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    expected = model.detect([rgb])[0]
    assert same(model.detect([grey])[0], expected)
    assert same(model.detect([np.dstack([rgb, grey])])[0], expected)
    assert same(model.detect([rgb.astype(np.uint16) * 257])[0], expected)
    assert same(model.detect([rgb / 255.0])[0], expected)


def test_a_molded_image_gives_a_warning_and_what_its_photo_gives(model, config, caplog):
    photo = photos(1)[0]
    with caplog.at_level("WARNING", "mrcnn"):
        found = model.detect([mold_image(photo, config)])[0]
    assert "looks already molded" in caplog.text
    assert same(found, model.detect([photo])[0])
    model.detect([photo[:, :, 0].astype(np.float32) - 120])  # grey has no mean of its own: no error


@pytest.mark.parametrize("image, sentence", [
    (np.zeros((0, 5, 3), np.uint8), "An image must have pixels. Received: image 0"),
    (np.zeros((5, 5, 7), np.uint8), "IMAGE_CHANNEL_COUNT = 3 channels. Received: image 0 with 7"),
    (np.zeros(5, np.uint8), "An image must be .height, width"),
])  # fmt: skip
def test_an_image_that_is_none(model, image, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.detect([image])


def test_detect_molded_gives_pixels_of_the_molded_image(model):
    images = photos(1)
    molded, metas, _ = model.mold_inputs(images)
    assert same(model.detect_molded(molded, metas)[0], model.detect(images)[0])


@pytest.fixture
def sent(model, monkeypatch):
    """The images and anchors that the network is given, as where TensorFlow sees a GPU."""
    found, predict = [], model.predict

    def watched(inputs):
        found.append((inputs[0], inputs[2]))
        return predict(inputs)

    monkeypatch.setattr(model, "predict", watched)
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind=None: [SimpleNamespace(device_type="GPU")]
    )
    return found


def test_a_gpu_gets_photos_as_uint8_and_finds_the_same(model, sent, monkeypatch, capsys):
    images = photos(2, sizes=[(64, 64), (40, 90)])
    there = model.detect(images, verbose=1)
    assert "photos, molded on the GPU" in capsys.readouterr().out
    monkeypatch.undo()
    assert len(there[0]["rois"]) > 0
    assert all(map(same, there, model.detect(images)))
    ((resized, _),) = sent
    assert resized.dtype == np.uint8 and resized.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(
        mold_on_device(tf.constant(resized), model.config), model.mold_inputs(images)[0]
    )


@pytest.mark.parametrize("where", ["class", "instance"])
def test_ones_own_mold_inputs_decides_on_a_gpu_too(model, sent, where, monkeypatch):
    def zeros(images):
        molded, metas, windows = MaskRCNN.mold_inputs(model, images)
        return 0 * molded, metas, windows

    if where == "instance":
        monkeypatch.setattr(model, "mold_inputs", zeros)
    else:
        monkeypatch.setattr(
            model, "__class__", type("Own", (MaskRCNN,), {"mold_inputs": lambda self, x: zeros(x)})
        )
    model.detect(photos(1))
    ((molded, _),) = sent
    assert molded.dtype == np.float32 and not molded.any()


def test_anchors_are_sent_to_the_device_once_for_a_size(model, monkeypatch):
    small, large = np.zeros((2, 64, 64, 3)), np.zeros((1, 128, 64, 3))
    anchors = model._batch_of_anchors(small)
    np.testing.assert_array_equal(anchors, [model.get_anchors((64, 64))] * 2)
    sent = model._sent_anchors
    model._batch_of_anchors(small[:1])
    assert model._sent_anchors is sent
    np.testing.assert_array_equal(model._batch_of_anchors(large), [model.get_anchors((128, 64))])


def test_unmold_detections_by_hand(model):
    """A photo of 100 x 200 was halved into the middle 50 rows of 100 x 100."""
    window = (25, 0, 75, 100)
    # in the molded image the box covers rows 25..50 and columns 0..50: the photo's upper left quarter
    box = boxes.normalize(np.array([[25, 0, 50, 50]]), (100, 100))[0]
    detections = np.zeros((3, 6), np.float32)
    detections[0] = [*box, 2, 0.9]
    detections[1] = [0.5, 0.5, 0.5, 0.5, 1, 0.8]  # no area: dropped
    masks = np.zeros((3, 28, 28, 3), np.float32)
    masks[0, :, :14, 2] = 1.0
    rois, ids, scores, full = model.unmold_detections(
        detections, masks, (100, 200, 3), (100, 100, 3), window
    )
    assert ids.tolist() == [2] and scores.tolist() == [np.float32(0.9)]
    np.testing.assert_allclose(rois, [[0, 0, 50, 100]], atol=1)
    assert full.shape == (100, 200, 1)
    assert full[:49, :49, 0].all() and not full[:, 51:, 0].any() and not full[52:, :, 0].any()


@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3), (8, 1024, 3)])
def test_a_photo_that_fills_one_row_of_the_network_is_detected_without_a_warning(model, shape):
    photo = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = model.detect([photo])
    y1, x1, y2, x2 = found["rois"].T
    assert (
        len(found["rois"])
        and (y1 >= 0).all()
        and (y2 <= shape[0]).all()
        and (x1 >= 0).all()
        and (x2 <= shape[1]).all()
    )


def test_boxes_of_a_one_row_window_span_the_photo():
    found = boxes.normalize(np.array([[31, 8, 32, 24]]), (64, 64))
    rois = model_room._photo_boxes(found, (8, 512, 3), (64, 64, 3), (31, 0, 32, 64))
    assert rois.tolist() == [[0, 65, 8, 188]]  # 8 and 23 of 63, times 511


# --- Looking inside ---------------------------------------------------------------------------------------------


STEPS = {
    "ROI/pre_nms_anchors:0": (1, 400, 4),
    "ROI/refined_anchors:0": (1, 400, 4),
    "ROI/refined_anchors_clipped:0": (1, 400, 4),
    "ROI/rpn_non_max_suppression:0": (20,),
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV2:0": (20,),
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0": (20,),
}


def test_ancestors_are_what_run_graph_accepts(model):
    roi = model.keras_model.get_layer("ROI").output
    outputs = [(name, model.ancestor(roi, name)) for name in STEPS]
    outputs.append(("ROI", roi))
    found = model.run_graph(photos(1), outputs)
    assert {name: found[name].shape for name in STEPS} == STEPS
    clipped = found["ROI/refined_anchors_clipped:0"]
    np.testing.assert_array_equal(clipped, np.clip(found["ROI/refined_anchors:0"], 0, 1))
    np.testing.assert_array_equal(
        clipped[0, found["ROI/rpn_non_max_suppression:0"]], found["ROI"][0]
    )


def test_indices_after_non_max_suppression_are_those_of_one_image_without_padding(config):
    """The cell of the original's notebooks: `ixs = rpn["post_nms_anchor_ix"][:limit]`."""
    config.PRE_NMS_LIMIT = 10  # fewer than the 20 proposals
    model = shake(MaskRCNN("inference", config))
    node = model.ancestor(
        model.keras_model.get_layer("ROI").output, "ROI/rpn_non_max_suppression:0"
    )
    found = model.run_graph(
        photos(2), [("kept", node), ("rois", model.keras_model.get_layer("ROI").output)]
    )
    count = int(np.any(found["rois"][0] != 0, axis=1).sum())
    assert found["kept"].shape == (count,) and 0 < count <= 10


def test_an_unknown_ancestor_is_none(model):
    roi = model.keras_model.get_layer("ROI").output
    assert model.ancestor(roi, "ROI/nonsense:0") is None
    assert model.ancestor(roi, "nonsense") is None
    with pytest.raises(ValueError, match="Every output must be a tensor. Received: None for x"):
        model.run_graph(photos(1), [("x", None)])


def test_run_graph_takes_a_list_or_molded_images(model):
    outputs = [
        ("p2", model.keras_model.get_layer("fpn_p2").output),
        ("d", model.keras_model.outputs[0]),
    ]
    images = photos(2)
    found = model.run_graph(images, outputs)
    molded, metas, _ = model.mold_inputs(images)
    again = model.run_graph(molded, outputs, image_metas=metas)
    assert found["p2"].shape == (2, 16, 16, 32)
    np.testing.assert_array_equal(found["p2"], again["p2"])
    np.testing.assert_array_equal(found["d"], model.run_graph(np.stack(images), outputs)["d"])


def test_run_graph_keeps_the_batch_of_a_single_output(model):
    image = model.keras_model.inputs[0]
    assert model.run_graph(photos(1), [("photo", image)])["photo"].shape == (1, 64, 64, 3)


def test_trainable_layers_have_weights(model):
    names = [layer.name for layer in model.get_trainable_layers()]
    assert {"res1a_conv", "bn1a", "rpn_model", "mrcnn_mask"} <= set(names)
    assert "fpn_p6" not in names and "ROI" not in names
    layer = model.keras_model.get_layer("fpn_p2")
    assert model.find_trainable_layer(layer) is layer
    assert model.find_trainable_layer(KL.TimeDistributed(layer)) is layer


def test_anchors_are_kept_in_pixels(model):
    normalised = model.get_anchors((64, 64, 3))
    assert normalised.shape == model.anchors.shape == (1023, 4)
    # the first anchor of P2: 8 pixels, ratio 0.5, centred on the first cell's corner
    side = 8 / np.sqrt(0.5) / 2, 8 * np.sqrt(0.5) / 2
    np.testing.assert_allclose(model.anchors[0], [-side[0], -side[1], side[0], side[1]])
    np.testing.assert_allclose(normalised, boxes.normalize(model.anchors, (64, 64)))
    assert model.get_anchors((128, 64)).shape == (2046, 4)


def test_a_script_that_sets_up_no_logging_is_told_what_happens(monkeypatch, capsys):
    monkeypatch.setattr(model_room.logger, "handlers", [])
    monkeypatch.setattr(model_room.logger, "propagate", False)
    monkeypatch.setattr(model_room.logger, "level", 0)
    for _ in range(2):
        model_room._be_heard()
    model_room.logger.info("epoch 1/10")
    assert capsys.readouterr().err == "epoch 1/10\n"
    own = [logging.NullHandler()]
    monkeypatch.setattr(model_room.logger, "handlers", own)
    model_room._be_heard()
    assert model_room.logger.handlers == own and len(own) == 1


def test_log_prints_shape_range_and_type(capsys):
    log("x", np.array([[1, 5]]))
    log("only words")
    log("empty", np.zeros((0, 4)))
    text = capsys.readouterr().out
    assert "shape: (1, 2)" in text and "1.00000" in text and "5.00000" in text
    assert "only words\n" in text and "shape: (0, 4)" in text


# --- Files ------------------------------------------------------------------------------------------------------


def test_keras_model_saves_and_loads_any_h5_name(model, tmp_path):
    path = tmp_path / "x.h5"
    model.keras_model.save_weights(str(path))
    assert read_metadata(path)["config"]["NAME"] == "tiny"
    fresh = shake(build(), seed=5)
    fresh.keras_model.load_weights(str(path), by_name=True)
    for ours, theirs in zip(fresh.keras_model.weights, model.keras_model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="overwrite=False"):
        model.keras_model.save_weights(path, overwrite=False)


def test_keras_model_still_saves_keras_files(model, tmp_path):
    path = tmp_path / "x.weights.h5"
    model.keras_model.save_weights(path)
    fresh = shake(build(), seed=5)
    fresh.keras_model.load_weights(path)
    np.testing.assert_array_equal(
        fresh.keras_model.get_layer("fpn_p2").kernel, model.keras_model.get_layer("fpn_p2").kernel
    )


OWN = {
    "backbone": TinyConfig.BACKBONE,
    "TinyConfig.COMPUTE_BACKBONE_SHAPE": TinyConfig.COMPUTE_BACKBONE_SHAPE,
}


@pytest.mark.parametrize("name", ["x.keras", "x.h5"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_keras_saves_and_loads_the_whole_network(mode, name, tmp_path):
    model = shake(build(mode, tmp_path, DETECTION_MIN_CONFIDENCE=0.25))
    model.class_names = ["BG", "light", "dark"]
    if mode == "training":
        model.set_trainable("(mrcnn_.*)|(rpn_.*)")
        model.compile(0.01, 0.9)
    model.keras_model.save(tmp_path / name)
    loaded = keras.models.load_model(tmp_path / name, custom_objects=OWN)
    for ours, theirs in zip(loaded.weights, model.keras_model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [w.path for w in loaded.trainable_weights] == [
        w.path for w in model.keras_model.trainable_weights
    ]
    assert loaded.describe() == model.metadata()
    fresh = build(mode, tmp_path)
    if name == "x.h5":
        assert not fresh.load_weights(tmp_path / name, by_name=True).missing
    if mode == "inference":
        inputs = [
            np.float32(x)
            for x in (np.ones((1, 64, 64, 3)), meta(64, 64), model.get_anchors((64, 64))[None])
        ]
        for ours, theirs in zip(loaded(inputs), model.keras_model(inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_network_of_a_known_backbone_needs_nothing_but_its_file(tmp_path):
    config = Config()
    config.NAME, config.NUM_CLASSES, config.BACKBONE, config.IMAGE_MAX_DIM = (
        "small",
        2,
        "mobilenet_v2",
        64,
    )
    config.IMAGE_MIN_DIM = config.TOP_DOWN_PYRAMID_SIZE = config.RPN_CHANNELS = (
        config.MASK_CHANNELS
    ) = 64
    network = MaskRCNN("inference", config, tmp_path).keras_model
    text = network.to_json()
    assert json.loads(text)["config"]["config"]["BACKBONE"] == "mobilenet_v2"
    again = keras.models.model_from_json(text)
    assert [w.shape for w in again.weights] == [w.shape for w in network.weights]
    assert "Lambda" not in text


def test_an_own_backbone_must_be_given_to_load_a_whole_file(model, tmp_path):
    model.keras_model.save(tmp_path / "x.keras")
    with pytest.raises(
        ValueError, match=r'BACKBONE function of your own.*Try custom_objects=\{"backbone": '
    ):
        keras.models.load_model(tmp_path / "x.keras")


def test_a_whole_network_is_exported_to_a_folder(model, tmp_path, compiled):
    model.keras_model.save(str(tmp_path / "folder"))
    served = tf.saved_model.load(str(tmp_path / "folder"))
    inputs = [
        np.float32(x)
        for x in (np.ones((1, 64, 64, 3)), meta(64, 64), model.get_anchors((64, 64))[None])
    ]
    for ours, theirs in zip(served.serve(inputs), model.keras_model(inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_from_weights_needs_a_config_for_an_own_backbone(model, tmp_path):
    model.class_names = ["BG", "light", "dark"]
    model.save_weights(tmp_path / "tiny.h5")
    with pytest.raises(
        ValueError, match="BACKBONE function of your own cannot be rebuilt.*Try passing config="
    ):
        MaskRCNN.from_weights(tmp_path / "tiny.h5")
    again = MaskRCNN.from_weights(tmp_path / "tiny.h5", config=TinyConfig())
    assert again.class_names == ["BG", "light", "dark"]
    assert same(again.detect(photos(1))[0], model.detect(photos(1))[0])


def test_from_weights_of_a_file_without_config_asks_for_one(model, tmp_path):
    from mrcnn.weights import weight_files as weights

    weights.save_weights(model.keras_model, tmp_path / "old.h5")
    with pytest.raises(ValueError, match="carries no config.*--config"):
        MaskRCNN.from_weights(tmp_path / "old.h5")


def test_the_default_config_of_matterport_still_has_its_sizes():
    config = Config()
    assert (config.RPN_CHANNELS, config.MASK_CHANNELS, config.TOP_DOWN_PYRAMID_SIZE) == (
        512,
        256,
        256,
    )


# --- Less than the whole network, and heads for all classes -------------------------------------------------------


def names_of(model):
    return {layer.name for layer in model.keras_model.layers}


def test_without_masks_there_is_no_mask_head():
    boxes_alone = build(USE_MASK=False)
    assert [tuple(x.shape) for x in boxes_alone.keras_model.outputs] == [
        (None, 10, 6),
        (None, 20, 3),
        (None, 20, 3, 4),
        (None, 20, 4),
        (None, None, 2),
        (None, None, 4),
    ]
    trained = build("training", USE_MASK=False)
    for made in (boxes_alone, trained):
        assert not [name for name in names_of(made) if "mask" in name]
        assert {"mrcnn_class_conv1", "mrcnn_bbox_fc", "rpn_model"} <= names_of(made)
    assert [x.name for x in trained.keras_model.inputs][4:] == [
        "input_gt_class_ids",
        "input_gt_boxes",
    ]


def test_boxes_without_masks_are_those_with_them(model, tmp_path):
    """The same weights find the same boxes; results have no masks."""
    model.save_weights(tmp_path / "whole.h5")
    boxes_alone = build(USE_MASK=False)
    report = boxes_alone.load_weights(tmp_path / "whole.h5")
    assert report.missing == [] and {name[:10] for name in report.unused} == {"mrcnn_mask"}
    pictures = photos(3, sizes=((64, 64), (40, 80)))
    for found, expected in zip(boxes_alone.detect(pictures), model.detect(pictures), strict=True):
        assert set(found) == {"rois", "class_ids", "scores"} and len(found["rois"])
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_box_only_weights_know_what_they_are(tmp_path):
    path = tmp_path / "boxes.h5"
    shake(build(USE_MASK=False)).save_weights(path)
    config = TinyConfig.from_dict(model_room.weights.read_metadata(path)["config"])
    assert config.USE_MASK is False
    with pytest.raises(ValueError, match="The mask head must be in the file.*USE_MASK = False"):
        build().load_weights(path)
    report = build("training").load_weights(path)
    assert len(report.missing) == 10 and {name[:10] for name in report.missing} == {"mrcnn_mask"}


def test_an_rpn_alone_has_no_heads(model, tmp_path):
    trained = build("training", RPN_ONLY=True)
    assert [x.name for x in trained.keras_model.inputs] == [
        "input_image", "input_image_meta", "input_rpn_match", "input_rpn_bbox",
    ]  # fmt: skip
    proposer = build(RPN_ONLY=True)
    assert [tuple(x.shape) for x in proposer.keras_model.outputs] == [
        (None, 20, 5),
        (None, None, 2),
        (None, None, 4),
    ]
    for made in (proposer, trained):
        assert not [name for name in names_of(made) if name.startswith("mrcnn_")]
    shake(trained).save_weights(tmp_path / "rpn.h5")
    with pytest.raises(
        ValueError, match="The class and box head must be in the file.*RPN_ONLY = True"
    ):
        model.load_weights(tmp_path / "rpn.h5")
    assert proposer.load_weights(tmp_path / "rpn.h5").missing == []


def test_proposals_are_detected_in_pixels_of_the_photo(model, tmp_path):
    model.save_weights(tmp_path / "whole.h5")
    proposer = build(RPN_ONLY=True, POST_NMS_ROIS_INFERENCE=200)
    proposer.load_weights(tmp_path / "whole.h5")
    assert proposer.detect([]) == []
    pictures = photos(2, sizes=((64, 64), (20, 40)))  # the second is padded
    for found, photo in zip(proposer.detect(pictures), pictures, strict=True):
        assert (
            set(found) == {"rois", "scores"}
            and 0 < len(found["rois"]) == len(found["scores"]) <= 200
        )
        height, width = photo.shape[:2]
        assert found["rois"].dtype == np.int32 and (found["rois"] >= 0).all()
        assert (found["rois"] <= [height, width, height, width]).all() and (
            boxes.area(found["rois"]) > 0
        ).all()
        assert (np.diff(found["scores"]) <= 0).all() and (found["scores"] > 0).all()
    # those of the whole network: its output of the proposal layer, in an image of 64 x 64 pixels
    molded, metas, _ = model.mold_inputs(pictures[:1])
    *_, rois, _, _ = model.keras_model(
        [molded, metas, model._batch_of_anchors(molded).numpy()], training=False
    )
    pixels = boxes.clip(boxes.denormalize(rois[0], (64, 64)), np.array([0, 0, 64, 64]))
    pixels = pixels[boxes.area(pixels) > 0]
    np.testing.assert_array_equal(proposer.detect(pictures[:1])[0]["rois"][: len(pixels)], pixels)


def test_unmold_proposals_by_hand():
    proposer = build(RPN_ONLY=True)
    # 65 x 65 with the photo of 65 x 33 in columns 16 to 48: normalised x = (pixel - 16) / 32 of the photo
    proposals = np.float32(
        [[0, 0.25, 1, 0.75, 0.9], [0.5, 0.0, 1, 0.5, 0.8], [0, 0, 1, 0.2, 0.7], [0, 0, 0, 0, 0]]
    )
    found = proposer.unmold_proposals(proposals, (65, 33, 3), (65, 65, 3), (0, 16, 65, 49))
    # the second reaches over the photo's left side, the third lies beside the photo, the last is padding
    assert found["rois"].tolist() == [[0, 0, 65, 33], [32, 0, 65, 17]]
    np.testing.assert_allclose(found["scores"], [0.9, 0.8])


def test_heads_for_all_classes(model):
    one = shake(build(CLASS_AGNOSTIC_BOX=True, CLASS_AGNOSTIC_MASK=True))
    assert [tuple(x.shape) for x in one.keras_model.outputs][1:4] == [
        (None, 20, 3),
        (None, 20, 1, 4),
        (None, 10, 28, 28, 1),
    ]

    def own(network):
        return {name for name in names_of(network) if name.startswith(("fpn_", "rpn_", "mrcnn_"))}

    assert own(one) == own(model)
    photo = photos(1)[0]
    (found,) = one.detect([photo])
    assert found["masks"].shape == (64, 64, len(found["rois"])) and len(found["rois"])
    assert (
        build("training", CLASS_AGNOSTIC_BOX=True).keras_model.get_layer("mrcnn_bbox_fc").units == 4
    )


def test_one_set_of_deltas_is_one_for_each_class():
    rng = np.random.default_rng(5)
    rois = boxes.clip(
        np.float32(rng.uniform(0, 0.5, (1, 8, 4)) + [0, 0, 0.4, 0.4]), np.float32([0, 0, 1, 1])
    )
    probs = np.float32(rng.dirichlet([1, 1, 1], (1, 8)))
    deltas = np.float32(rng.normal(size=(1, 8, 1, 4)))
    config = TinyConfig()
    one = model_room.refine_detections(tf.constant(rois), probs, tf.constant(deltas), WHOLE, config)
    each = model_room.refine_detections(
        tf.constant(rois), probs, tf.constant(deltas.repeat(3, axis=2)), WHOLE, config
    )
    assert np.any(one)
    np.testing.assert_array_equal(one, each)


WHOLE = np.float32([[0, 0, 1, 1]])


def test_a_second_class_for_the_same_object_is_suppressed_across_classes():
    rois = np.float32([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.52], [0.6, 0.6, 0.9, 0.9]]])
    probs = np.float32([[[0.2, 0.8, 0], [0.1, 0, 0.9], [0.3, 0.7, 0]]])
    deltas = np.zeros((1, 3, 3, 4), np.float32)
    found = {}
    for agnostic in (False, True):
        config = TinyConfig(CLASS_AGNOSTIC_NMS=agnostic, DETECTION_MIN_CONFIDENCE=0.5)
        found[agnostic] = np.asarray(
            model_room.refine_detections(tf.constant(rois), probs, deltas, WHOLE, config)
        )[0]
    assert found[False][:, 4].tolist() == [2, 1, 1] + [0] * 7
    assert found[True][:, 4].tolist() == [2, 1] + [0] * 8
    np.testing.assert_allclose(found[True][:2], found[False][[0, 2]])


def test_agnostic_suppression_takes_effect_at_the_next_detect(model, config, compiled):
    config.DETECTION_NMS_THRESHOLD = 0.01
    photo = photos(1, seed=3)
    per_class = model.detect(photo)[0]
    config.CLASS_AGNOSTIC_NMS = True
    across = model.detect(photo)[0]
    assert 0 < len(across["rois"]) < len(per_class["rois"])
    overlaps = boxes.iou(across["rois"], across["rois"]) - np.eye(len(across["rois"]))
    assert overlaps.max() < 0.2  # of pixels, rounded: small boxes


# --- Precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "exact", "short"),
    [
        ("resnet50", ["conv1", "bn_conv1"], ["res2a_branch2a", "bn2a_branch2a"]),
        (
            "mobilenet_v2",
            ["Conv1", "expanded_conv_project", "block_1_expand"],
            ["block_1_depthwise", "block_2_expand"],
        ),
    ],
)
def test_in_mixed_precision_the_photo_is_seen_in_float32(backbone, exact, short):
    """The layers up to C1; a folded network computes likewise."""
    network = build(PRECISION="mixed_bfloat16", BACKBONE=backbone, COMPUTE_BACKBONE_SHAPE=None)
    for made in (
        network.keras_model.get_layer,
        BatchNormFusedModel(network.keras_model).convolutions.get,
    ):
        layers = {name: made(name) for name in (*exact, *short) if "bn" not in name}
        assert {name: layer.compute_dtype for name, layer in layers.items()} == {
            name: "float32" if name in exact else "bfloat16" for name in layers
        }
    assert network.keras_model.get_layer(exact[0]).dtype_policy.name == "float32"


def test_in_mixed_precision_boxes_and_probabilities_stay_exact(model, tmp_path):
    """Convolutions compute in bfloat16; every input, output and weight is float32, and pixel 1,000 is not rounded."""
    model.save_weights(tmp_path / "weights.h5")
    mixed = build(PRECISION="mixed_bfloat16")
    assert mixed.load_weights(tmp_path / "weights.h5").missing == []
    network = mixed.keras_model
    assert {x.dtype for x in (*network.inputs, *network.outputs, *network.weights)} == {"float32"}
    assert {
        network.get_layer(name).compute_dtype
        for name in ("res2a_conv", "fpn_p2", "mrcnn_mask_conv1")
    } == {"bfloat16"}
    exact = (
        "ROI",
        "roi_align_mask",
        "mrcnn_class_logits",
        "mrcnn_bbox_fc",
        "mrcnn_mask",
        "mrcnn_detection",
    )
    exact += (
        "res1a_conv",
        "bn1a",
        "res1a_out",
    )  # up to C1: in bfloat16 a pixel less its mean loses half a gray level
    assert {network.get_layer(name).compute_dtype for name in exact} == {"float32"}
    (photo,) = photos(1)
    molded, metas, _ = model.mold_inputs([photo])
    inputs = [molded, metas, model._batch_of_anchors(molded).numpy()]
    found, expected = (made.keras_model(inputs, training=False)[5] for made in (mixed, model))
    np.testing.assert_allclose(found, expected, atol=0.05)  # rpn_class
    metas[:, 9:11] = 1000.0, 1001.0  # the window's end
    layer = network.get_layer("mrcnn_detection")
    rois = np.array([[[0.0, 0.0, 1.0, 1.0]]], np.float32)
    metas[:, 4:6] = 1023.0
    row = layer(
        [rois, np.array([[[0.0, 1.0, 0.0]]], np.float32), np.zeros((1, 1, 3, 4), np.float32), metas]
    )[0, 0]
    np.testing.assert_allclose(
        row[2:4], [999 / 1022, 1000 / 1022], rtol=1e-6
    )  # (1000 - 1) / (1023 - 1)
