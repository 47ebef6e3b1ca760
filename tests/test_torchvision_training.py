"""One training step of torchvision's networks: targets, losses and gradients."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mrcnn import model as modellib
from mrcnn.config import Config
from mrcnn.data.image import read_image
from mrcnn.data.rpn_targets import build_rpn_targets
from mrcnn.detection_model import model_class
from mrcnn.inference.preprocessing import mold
from mrcnn.nn import targets
from mrcnn.nn.anchors import pyramid_anchors
from mrcnn.nn.image_meta import compose_image_meta
from mrcnn.nn.layers import BatchNorm
from mrcnn.training.trainable import leaves
from mrcnn.weights.torchvision_layers import to_layers, to_tensors

CONFIGS = {
    "maskrcnn_resnet50_fpn": lambda: Config.torchvision(1),
    "maskrcnn_resnet50_fpn_v2": lambda: Config.torchvision(2),
    "retinanet_resnet50_fpn": lambda: Config.retinanet(1),
    "retinanet_resnet50_fpn_v2": lambda: Config.retinanet(2),
    "fcos_resnet50_fpn": Config.fcos,
    "keypointrcnn_resnet50_fpn": lambda: Config.torchvision(1),
}
LOSSES = {
    "rpn_class_loss": "loss_objectness",
    "rpn_bbox_loss": "loss_rpn_box_reg",
    "mrcnn_class_loss": "loss_classifier",
    "mrcnn_bbox_loss": "loss_box_reg",
    "mrcnn_mask_loss": "loss_mask",
    "mrcnn_keypoint_loss": "loss_keypoint",
    "class_loss": "classification",
    "bbox_loss": "bbox_regression",
    "centerness_loss": "bbox_ctrness",
}
BATCH_NORM = BatchNorm.call
HEIGHT, WIDTH = 320, 426  # of the resized image
PADDED = (320, 448, 3)
TO_YX = [1, 0, 3, 2]
# Limits of the differences of gradients, of the norm and of the projection.
NEAR_THE_LOSS = (
    "rpn",
    "roi_heads.box_predictor",
    "roi_heads.mask_predictor",
    "roi_heads.keypoint_predictor",
    "head.classification_head.cls_logits",
    "head.regression_head.bbox_",
)
NEAR = (1e-3, 1e-3)
# Twice torchvision's own difference from float64, see `test_gradients_are_those_of_torchvision`.
FAR = {1: (2e-3, 1.5e-2), 2: (7e-3, 4.4e-2)}


# The networks of ours whose training step was recorded.
REFERENCE = Path(os.environ.get("MRCNN_SHARED", ""), "reference", "torchvision")
MODELS = [name for name in CONFIGS if (REFERENCE / "train" / f"{name}.npz").is_file()]


pytestmark = pytest.mark.slow


class First:
    """A random generator that leaves the first candidates in a sample."""

    @staticmethod
    def choice(ids, count, replace):
        return ids[len(ids) - count :]


class Step(SimpleNamespace):
    """A training step: the file's numbers, and ours."""


def _config(name: str, keypoints: int) -> Config:
    config = CONFIGS[name]()
    config.NUM_CLASSES = 91
    if keypoints:
        config.NUM_CLASSES, config.NUM_KEYPOINTS, config.USE_MASK = 2, keypoints, False
    config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM = 320, 544
    config.USE_MINI_MASK = False
    config.TRAIN_ROIS_PER_IMAGE = 64  # 51 of them exist, the others are padding
    config.MAX_GT_INSTANCES = 3
    config.WEIGHT_DECAY = 0.0
    return config


def _image(folder: Path, config: Config) -> np.ndarray:
    """`[1, *PADDED]` image a, normalized, resized and padded with zeros."""
    image = mold(read_image(folder / "photos" / "a.png"), config).image[None]
    assert image.shape == (1, *PADDED)
    return image


def _ground_truth(file) -> tuple[np.ndarray, np.ndarray]:
    """`[3, 4]` boxes and `[*PADDED[:2], 3]` masks or `[3, K, 3]` keypoints of the resized image."""
    boxes = file["boxes"][:, TO_YX] * np.float32([HEIGHT / 480, WIDTH / 640] * 2)
    if "keypoints" in file:
        keypoints = file["keypoints"][..., [1, 0, 2]]
        return boxes, keypoints * np.float32([HEIGHT / 480, WIDTH / 640, 1])
    masks = np.zeros((*PADDED[:2], 3), bool)
    # torch's nearest: the pixel floor(i * scale)
    rows = np.floor(np.arange(HEIGHT) * np.float32(480 / HEIGHT)).astype(int)
    columns = np.floor(np.arange(WIDTH) * np.float32(640 / WIDTH)).astype(int)
    for i, bits in enumerate(file.get("masks", ())):
        masks[:HEIGHT, :WIDTH, i] = np.unpackbits(bits, axis=-1)[rows][:, columns]
    return boxes, masks


def _inputs(file, config: Config, image: np.ndarray) -> list[np.ndarray]:
    boxes, others = _ground_truth(file)
    meta = compose_image_meta(
        0, (480, 640, 3), PADDED, (0, 0, HEIGHT, WIDTH), 1.0, np.ones(config.NUM_CLASSES)
    )
    labels = file["labels"].astype(np.int32)
    if not config.has_rpn():
        return [image, *(np.asarray(x)[None] for x in (np.float32(meta), labels, boxes))]
    rpn_match, rpn_bbox = build_rpn_targets(
        PADDED, pyramid_anchors(config, PADDED), labels, boxes, config, First
    )
    batch = [meta, rpn_match[:, None], rpn_bbox, labels, boxes, others]
    return [image, *(np.asarray(x)[None] for x in batch)]


def _assign(network, tensors) -> None:
    """Set the weights to torchvision's tensors."""
    layers = to_layers(tensors)
    for layer in leaves(network):
        for name, value in layers.get(layer.name, ()):
            weight = next(w for w in layer.weights if w.name == name.split("/")[-1][:-2])
            weight.assign(value)
    ours = {layer.name for layer in leaves(network) if layer.weights}
    assert ours - {"proposal_targets"} <= set(layers)


def _gradients(network, inputs):
    @tf.function
    def step(*inputs):
        with tf.GradientTape() as tape:
            outputs = network(list(inputs), training=True)
            values = network.weighted_losses(list(inputs), outputs)
        gradients = tape.gradient(values["loss"], [w.value for w in network.trainable_weights])
        return outputs, values, gradients

    return step(*map(tf.constant, inputs))


def _as_torch(network, gradients) -> dict[str, np.ndarray]:
    """The gradients under torchvision's names and in its layouts."""
    owner = {id(w): layer.name for layer in leaves(network) for w in layer.weights}
    layers: dict[str, list] = {}
    for weight, gradient in zip(network.trainable_weights, gradients, strict=True):
        layers.setdefault(owner[id(weight)], []).append((weight.name, gradient.numpy()))
    return to_tensors(layers)


def _batch_norm(layer, inputs, training=None, mask=None, counted=None):
    """Batch norm whose statistics are sums in float64, as torch's are.

    TensorFlow's are sums in float32: RetinaNet's gradients then lie 7.9e-3 from those of float64,
    with these 1.3e-3.
    """
    if counted is not None:
        return BATCH_NORM(layer, inputs, training, mask, counted)
    x = tf.cast(inputs, tf.float64)
    gamma, beta = (tf.cast(weight.value, tf.float64) for weight in (layer.gamma, layer.beta))
    mean, variance = tf.nn.moments(x, axes=list(range(len(x.shape) - 1)))
    x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, layer.epsilon)
    return tf.cast(x, tf.float32)


@pytest.fixture(scope="module", params=MODELS)
def step(request, tmp_path_factory):
    folder = REFERENCE
    spec = importlib.util.spec_from_file_location("rebuild", folder / "rebuild.py")
    rebuild = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rebuild)
    file = dict(np.load(folder / "train" / f"{request.param}.npz"))
    keypoints = file["keypoints"].shape[1] if "keypoints" in file else 0
    config = _config(request.param, keypoints)
    proposals = np.zeros((0, 4), np.float32)
    if config.has_rpn():
        proposals = file["proposals"][:, TO_YX] / np.float32([*PADDED[:2], *PADDED[:2]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modellib.ProposalLayer, "call", lambda *_: tf.constant(proposals[None]))
        patch.setattr(
            modellib.ProposalLayer, "compute_output_shape", lambda *_: (None, len(proposals), 4)
        )
        patch.setattr(targets, "draw_priorities", _falling)
        if config.TRAIN_BN:
            patch.setattr(BatchNorm, "call", _batch_norm)
        model = model_class(config)("training", config, tmp_path_factory.mktemp("logs"))
        network = model.keras_model
        _assign(network, rebuild.state_dict(request.param))
        inputs = _inputs(file, config, _image(folder, config))
        outputs, values, gradients = _gradients(network, inputs)
    return Step(
        version=2 if request.param.endswith("_v2") else 1,
        config=config,
        file=file,
        inputs=inputs,
        outputs={name: np.asarray(x) for name, x in outputs.items()},
        losses={name: float(x) for name, x in values.items()},
        gradients=_as_torch(network, gradients),
    )


def _falling(batch, count, _):
    return tf.ones([batch, 1]) * (1.0 - tf.range(count, dtype=tf.float32) / float(count + 1))[None]


def test_losses_are_those_of_torchvision(step):
    for ours in step.config.loss_names():
        theirs = LOSSES[ours]
        expected = float(step.file[f"loss_{theirs}"])
        assert step.losses[ours] == pytest.approx(expected, rel=1e-5), ours
    assert step.losses["weight_decay"] == 0.0


def _skip_unless(step, has_rpn):
    if step.config.has_rpn() != has_rpn:
        pytest.skip("a network of the other kind")


def test_sampled_anchors_are_those_of_torchvision(step):
    """A low-quality match goes to the object that the anchor overlaps most, in both."""
    _skip_unless(step, has_rpn=True)
    match = step.inputs[2][0, :, 0]
    np.testing.assert_array_equal(np.flatnonzero(match == 1), step.file["anchor_sampled_positive"])
    np.testing.assert_array_equal(np.flatnonzero(match == -1), step.file["anchor_sampled_negative"])


def test_matched_anchors_are_those_of_torchvision(step):
    _skip_unless(step, has_rpn=False)
    class_ids = step.outputs["anchor_class_ids"][0]
    index, gt = step.file["anchor_matched_index"], step.file["anchor_matched_gt"]
    np.testing.assert_array_equal(np.flatnonzero(class_ids > 0), index)
    np.testing.assert_array_equal(class_ids[index], step.file["labels"][gt])
    assert np.count_nonzero(class_ids == -1) == step.file["anchor_neutral_count"]


def test_sampled_rois_and_targets_are_those_of_torchvision(step):
    _skip_unless(step, has_rpn=True)
    labels = step.file["roi_labels"]
    order = np.argsort(labels == 0, kind="stable")  # positives first, as ours
    count = len(labels)
    ids = step.outputs["target_class_ids"][0]
    np.testing.assert_array_equal(ids[:count], labels[order])
    assert not ids[count:].any() and not step.outputs["output_rois"][0, count:].any()
    pixels = step.outputs["output_rois"][0, :count] * np.float32([*PADDED[:2], *PADDED[:2]])
    np.testing.assert_allclose(pixels, step.file["rois"][order][:, TO_YX], atol=1e-4)
    positive = labels[order] > 0
    deltas = step.outputs["target_bbox"][0, :count]
    expected = step.file["roi_targets"][order][:, TO_YX]
    np.testing.assert_allclose(deltas[positive], expected[positive], rtol=1e-5, atol=1e-5)


def _projection(gradient: np.ndarray) -> float:
    return float(np.sum(gradient.ravel() * np.cos(np.arange(gradient.size))))


def test_gradients_are_those_of_torchvision(step):
    """Norms and projections, in units of the norm, of each tensor that trains.

    Activations within float32's noise of 0 change a gradient where ReLU lets them through or not:
    30 of 34 million in RetinaNet's second version, whose batch norm makes each of them depend on
    all others. Its norms in float64 equal torchvision's in float64 (median 1e-7, at most 2.5e-4),
    from which torchvision's float32, in the file, lies 3.5e-3 away, and 2.2e-2 in projections
    (first versions: 4e-4 and 5e-3).
    """
    names = list(map(str, step.file["grad_names"]))
    assert set(names) <= set(step.gradients)
    differences, too_far = [], []
    for name, norm, projection in zip(
        names, step.file["grad_norms"], step.file["grad_cos"], strict=True
    ):
        gradient = step.gradients[name].astype(np.float64)
        unit = max(norm, 1e-4)  # softmax cancels the keypoints' last bias: its gradient is noise
        by_norm = abs(np.linalg.norm(gradient) - norm) / unit
        by_projection = abs(_projection(gradient) - projection) / unit
        differences.append((by_norm, by_projection))
        limits = NEAR if name.startswith(NEAR_THE_LOSS) else FAR[step.version]
        if by_norm >= limits[0] or by_projection >= limits[1]:
            too_far.append((name, *differences[-1]))
    assert not too_far
    assert np.median(differences, axis=0)[0] < 1e-3
