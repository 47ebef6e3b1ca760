"""The network as `MaskRCNN.build` makes it: layers, shapes, modes, precision."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers as KL
from tiny import Squares, TinyConfig, noise_images, shake

from mrcnn.inference.fuse_batch_norm import BatchNormFusedModel
from mrcnn.model import (
    MaskRCNN,
)
from mrcnn.nn import boxes
from mrcnn.weights.opening import read_metadata

pytestmark = pytest.mark.usefixtures("eagerly")


def build(mode="inference", folder="logs", **values):
    return MaskRCNN(mode, TinyConfig(**values), folder)


@pytest.fixture(scope="module")
def model():
    return shake(build())


# --- The network as built ---


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
    # No output of inference depends on the logits, so Keras drops that layer.
    assert set(NAMES) - {"rpn_class_logits"} | {"mrcnn_detection", "input_anchors"} <= names
    trained = build("training")
    names = {layer.name for layer in trained.keras_model.layers}
    assert (
        set(NAMES) | {"proposal_targets", "input_rpn_match", "input_rpn_bbox", "input_gt_masks"}
        <= names
    )


def test_mobilenet_builds_detects_and_freezes_its_batch_norm():
    model = build(BACKBONE="mobilenet_v2")
    assert model.detect(noise_images(1))[0]["masks"].shape[:2] == (64, 64)
    norms = [x for x in model.keras_model.layers if type(x) is KL.BatchNormalization]
    assert len(norms) == 52 and not any(layer.trainable for layer in norms)


def test_efficientnet_lite2_trains_from_the_packaged_weights(tmp_path):
    model = build("training", tmp_path, BACKBONE="efficientnet_lite2")
    report = model.load_weights(model.get_imagenet_weights())
    assert len(report.loaded) == 2 * (1 + 2 + 20 * 3)  # a convolution and its norm
    assert not (report.missing or report.mismatched or report.unused)
    history = model.train(Squares(), None, 1e-3, 1, "5+").history
    assert np.isfinite(history["loss"]).all()
    trained = {x.name for x in model.keras_model.layers if x.trainable and x.weights}
    blocks = {name.split("_")[0] for name in trained if name.startswith(("block", "stem"))}
    assert blocks == {"block6a", "block6b", "block6c", "block6d", "block6e", "block7a"}


# --- Without a pyramid ---

C4 = {"BACKBONE_STRIDES": [16], "BOX_HEAD": "res5", "MASK_SHAPE": [14, 14]}
SINGLE_LEVEL = {
    "res5": C4,
    "res5, boxes": {**C4, "USE_MASK": False},
    "res5, images of any size": {**C4, "IMAGE_RESIZE_MODE": "pad64"},
    "2fc": {"BACKBONE_STRIDES": [16]},
    "vgg16": {"BACKBONE": "vgg16", "BACKBONE_STRIDES": [16]},
    "mobilenet_v2": {"BACKBONE": "mobilenet_v2", "BACKBONE_STRIDES": [16]},
    "2fc, detectron": {"BACKBONE_STRIDES": [16], "PROPOSAL_SELECTION": "per_level"},
    "only the RPN": {"BACKBONE_STRIDES": [16], "RPN_ONLY": True},
}


@pytest.mark.parametrize("name", SINGLE_LEVEL)
def test_network_without_a_pyramid_trains_and_detects(name, tmp_path):
    values = SINGLE_LEVEL[name]
    trained = build("training", tmp_path, **values)
    history = trained.train(Squares(), Squares(), 1e-3, 1, "all").history
    assert np.isfinite(history["loss"]).all() and set(trained.config.loss_names()) < set(history)
    trained.save_weights(tmp_path / "one.h5")
    model = MaskRCNN.from_weights(tmp_path / "one.h5", TinyConfig(**values), tmp_path)
    names = {layer.name for layer in model.keras_model.layers}
    assert not any(name.startswith("fpn_") or name == "res5a_conv" for name in names)
    (found,) = model.detect(noise_images(1))
    if values.get("RPN_ONLY"):
        assert len(found["rois"])
        return
    if model.config.USE_MASK:
        assert found["masks"].shape == (64, 64, len(found["rois"]))
    assert ("masks" in found) == model.config.USE_MASK
    assert model.get_anchors((64, 64)).shape == (4 * 4 * 3 * 5, 4)


def test_pyramid_from_p1_on_trains_and_detects(tmp_path):
    """For small objects: anchors of stride 2, and RoIs of P1."""
    values = {"BACKBONE": "mobilenet_v2", "BACKBONE_STRIDES": [2, 4, 8, 16, 32, 64]}
    values["RPN_ANCHOR_SCALES"] = (4, 8, 16, 32, 48, 64)
    trained = build("training", tmp_path, COMPUTE_BACKBONE_SHAPE=None, **values)
    assert trained.get_anchors((64, 64)).shape == (
        3 * (32 * 32 + 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2 + 1),
        4,
    )
    history = trained.train(Squares(), None, 1e-3, 1, "heads").history
    assert np.isfinite(history["loss"]).all()
    trained.save_weights(tmp_path / "p1.h5")
    model = MaskRCNN.from_weights(tmp_path / "p1.h5")
    (found,) = model.detect(noise_images(1))
    assert found["masks"].shape == (64, 64, len(found["rois"]))
    assert model.keras_model.get_layer("roi_align_mask").finest_level == 1


def test_branches_of_a_network_without_a_pyramid_share_stage_5():
    """The masks of training are those of the class branch's features, of inference of its own."""
    inference, training = build(**C4), build("training", **C4)
    for model in (inference, training):
        assert [x.name for x in model.keras_model.layers if "res5" in x.name] == ["res5_model"]
    layers = {layer.name for layer in training.keras_model.layers}
    assert "roi_align_classifier" in layers and "roi_align_mask" not in layers
    weights = len(training.keras_model.get_layer("res5_model").weights)
    assert weights == 10 * (2 + 4)  # a convolution with bias and its batch norm, ten times
    assert [tuple(x.shape) for x in inference.keras_model.outputs[:4]] == [
        (None, 10, 6),
        (None, 20, 3),
        (None, 20, 3, 4),
        (None, 10, 14, 14, 3),
    ]


def test_widths_follow_the_config():
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
def test_mask_head_follows_mask_shape(side):
    model = build(MASK_SHAPE=[side, side], DETECTION_MAX_INSTANCES=2)
    assert model.keras_model.outputs[3].shape == (None, 2, side, side, 3)
    assert model.detect(noise_images(1))[0]["masks"].shape == (
        64,
        64,
        len(model.detect(noise_images(1))[0]["rois"]),
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
    found = model.detect(noise_images(2, sizes=[(40, 90), (200, 150)]))
    assert [r["masks"].shape[:2] for r in found] == [(40, 90), (200, 150)]
    assert len(found[0]["rois"]) > 0
    # P2..P6 of 64 x 128: 16*32 + 8*16 + 4*8 + 2*4 + 1*2 cells, three anchors in each
    assert model.anchors.shape == (3 * (512 + 128 + 32 + 8 + 2), 4)
    molded, metas, windows = model.mold_inputs(noise_images(1, sizes=[(40, 90)]))
    assert molded.shape == (1, 64, 128, 3)


def test_build_in_device_scope():
    with tf.device("/cpu:0"):
        model = build()
    assert len(model.detect(noise_images(1))) == 1


@pytest.mark.parametrize(
    "values, sentence",
    [
        (
            {"BACKBONE": "vgg"},
            "BACKBONE must be one of resnet50, .*mobilenet_v2.* or a callable.*'vgg'",
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
def test_invalid_config_raises(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**values)


def test_unknown_mode_raises():
    with pytest.raises(
        ValueError, match="mode must be 'training' or 'inference'. Received: 'test'"
    ):
        build("test")


def test_train_and_detect_need_their_mode(model):
    with pytest.raises(ValueError, match="train.. needs a model in training mode"):
        model.train(None, None, 0.1, 1, "all")
    with pytest.raises(ValueError, match="detect.. needs a model in inference mode"):
        build("training").detect(noise_images(1))


def test_callable_backbone_with_one_argument():
    def image_only(image):
        x, stages = image, []
        for i in range(5):
            x = KL.Conv2D(24, 3, strides=2, padding="same", activation="relu", name=f"c{i}")(x)
            stages.append(x)
        return stages

    assert build(BACKBONE=image_only).keras_model.get_layer("c4").kernel.shape == (3, 3, 24, 24)


def test_type_error_of_callable_backbone_is_raised():
    def broken(image, stage5, train_bn):
        return len(5)

    with pytest.raises(TypeError, match="has no len"):
        build(BACKBONE=broken)


# --- Layers ---


@pytest.mark.parametrize("count", [2, 4])
def test_rpn_reads_one_level_per_anchor_scale(count, tmp_path):
    scales, places = (8, 16, 32, 48)[:count], (16 * 16, 8 * 8, 4 * 4, 2 * 2)[:count]
    model = shake(build(RPN_ANCHOR_SCALES=scales))
    model.save_weights(tmp_path / "few.h5")
    assert model.get_anchors((64, 64)).shape == (3 * sum(places), 4)
    (found,) = model.detect(noise_images(1))
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


def test_mask_input_size_follows_resize_mode():
    masks = [
        build("training", IMAGE_RESIZE_MODE=mode, USE_MINI_MASK=mini).keras_model.inputs[6].shape
        for mode, mini in (("square", False), ("pad64", False), ("none", True))
    ]
    assert masks == [(None, 64, 64, None), (None, None, None, None), (None, 56, 56, None)]


# --- Parts of the network, and class-agnostic heads ---


def names_of(model):
    return {layer.name for layer in model.keras_model.layers}


def test_use_mask_false_has_no_mask_head():
    has_boxes_only = build(USE_MASK=False)
    assert [tuple(x.shape) for x in has_boxes_only.keras_model.outputs] == [
        (None, 10, 6),
        (None, 20, 3),
        (None, 20, 3, 4),
        (None, 20, 4),
        (None, None, 2),
        (None, None, 4),
    ]
    trained = build("training", USE_MASK=False)
    for made in (has_boxes_only, trained):
        assert not [name for name in names_of(made) if "mask" in name]
        assert {"mrcnn_class_conv1", "mrcnn_bbox_fc", "rpn_model"} <= names_of(made)
    assert [x.name for x in trained.keras_model.inputs][4:] == [
        "input_gt_class_ids",
        "input_gt_boxes",
    ]


def test_boxes_do_not_depend_on_the_mask_head(model, tmp_path):
    """The same weights find the same boxes; results have no masks."""
    model.save_weights(tmp_path / "whole.h5")
    has_boxes_only = build(USE_MASK=False)
    report = has_boxes_only.load_weights(tmp_path / "whole.h5")
    assert report.missing == [] and {name[:10] for name in report.unused} == {"mrcnn_mask"}
    pictures = noise_images(3, sizes=((64, 64), (40, 80)))
    for found, expected in zip(
        has_boxes_only.detect(pictures), model.detect(pictures), strict=True
    ):
        assert set(found) == {"rois", "class_ids", "scores"} and len(found["rois"])
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_weights_of_boxes_only_record_use_mask(tmp_path):
    path = tmp_path / "boxes.h5"
    shake(build(USE_MASK=False)).save_weights(path)
    config = TinyConfig.from_dict(read_metadata(path)["config"])
    assert config.USE_MASK is False
    with pytest.raises(ValueError, match="The mask head must be in the file.*USE_MASK = False"):
        build().load_weights(path)
    report = build("training").load_weights(path)
    assert len(report.missing) == 10 and {name[:10] for name in report.missing} == {"mrcnn_mask"}


def test_rpn_only_has_no_heads(model, tmp_path):
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


def test_proposals_are_in_pixels_of_the_image(model, tmp_path):
    model.save_weights(tmp_path / "whole.h5")
    proposer = build(RPN_ONLY=True, POST_NMS_ROIS_INFERENCE=200)
    proposer.load_weights(tmp_path / "whole.h5")
    assert proposer.detect([]) == []
    pictures = noise_images(2, sizes=((64, 64), (20, 40)))  # the second is padded
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
        [molded, metas, model.get_anchors(molded.shape[1:])[None]], training=False
    )
    pixels = boxes.clip(boxes.denormalize(rois[0], (64, 64)), np.array([0, 0, 64, 64]))
    pixels = pixels[boxes.area(pixels) > 0]
    np.testing.assert_array_equal(proposer.detect(pictures[:1])[0]["rois"][: len(pixels)], pixels)


def test_class_agnostic_heads(model):
    one = shake(build(CLASS_AGNOSTIC_BOX=True, CLASS_AGNOSTIC_MASK=True))
    assert [tuple(x.shape) for x in one.keras_model.outputs][1:4] == [
        (None, 20, 3),
        (None, 20, 1, 4),
        (None, 10, 28, 28, 1),
    ]

    def own(network):
        return {name for name in names_of(network) if name.startswith(("fpn_", "rpn_", "mrcnn_"))}

    assert own(one) == own(model)
    photo = noise_images(1)[0]
    (found,) = one.detect([photo])
    assert found["masks"].shape == (64, 64, len(found["rois"])) and len(found["rois"])
    assert (
        build("training", CLASS_AGNOSTIC_BOX=True).keras_model.get_layer("mrcnn_bbox_fc").units == 4
    )


# --- Precision ---


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
def test_mixed_precision_computes_layers_up_to_c1_in_float32(backbone, exact, short):
    """Of the fused network too."""
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


def test_mixed_precision_computes_boxes_and_probabilities_in_float32(model, tmp_path):
    """Convolutions compute in bfloat16; inputs, outputs and weights are float32."""
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
    )
    assert {network.get_layer(name).compute_dtype for name in exact} == {"float32"}
    (photo,) = noise_images(1)
    molded, metas, _ = model.mold_inputs([photo])
    inputs = [molded, metas, model.get_anchors(molded.shape[1:])[None]]
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
