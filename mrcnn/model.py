"""The network of Mask R-CNN (He 2017), top to bottom as in its figure, and the `MaskRCNN` class.

    image -> backbone C2..C5 -> FPN P2..P6 -> RPN -> proposals
        training:  proposals -> RoIs and targets -> class, box and mask heads -> losses
        inference: proposals -> class and box head -> detections -> mask head

Start reading at `MaskRCNN._build`, at the end: it builds the first line of the figure and hands on
to `_build_training` or `_build_inference`. `MaskRCNN.detect` is in `inference/detection_methods`,
which calls `inference/detector`: images -> mold -> this network -> unmold. `train` is in
`training/loop`.

Shape shorthand: B images, A anchors, N proposals or RoIs, D detections, M ground-truth objects,
C channels, h and w the sides of a feature map.
Naming: anchors -> proposals (after NMS) -> rois (inputs of a head) -> detections. `*_deltas` are
encoded boxes, `gt_*` is ground truth, `target_*` the targets of a head, `*_logits` and `*_probs`
are before and after the softmax. Layers keep matterport's names: `*_class` probs, `*_bbox` deltas.
Boxes are `(y1, x1, y2, x2)`: normalized inside the network, in pixels outside.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers as KL

# Imports marked F401, and matterport_names, are names that scripts take from this module.
from .config import ANY_SIZE_MODES, KEYPOINT_LOSS, Config
from .data.generator import DataGenerator, data_generator  # noqa: F401
from .data.ground_truth import load_image_gt  # noqa: F401
from .data.image import mold_image, unmold_image  # noqa: F401
from .data.roi_targets import build_detection_targets, generate_random_rois  # noqa: F401
from .data.rpn_targets import build_rpn_targets  # noqa: F401
from .detection_model import DetectionModel, network_from_config
from .inference.detector import log  # noqa: F401
from .nn import losses, targets
from .nn.backbones import build_stage5_model, feature_maps
from .nn.cascade import cascade_inference, cascade_losses, cascade_stages
from .nn.detections import refine_detections, select_class_masks
from .nn.fpn import fpn_graph
from .nn.heads import (
    class_head,
    class_outputs,
    mask_head,
    mask_outputs,
    stage5_features,
)
from .nn.image_meta import normalized_windows, split_image_meta
from .nn.keras_ops import ops
from .nn.keypoints import KeypointCells, keypoint_head
from .nn.layers import FLOAT32, NormalizeBoxes, mark_as_read
from .nn.matterport_names import *  # noqa: F403
from .nn.proposals import (
    STEP_NAMES,
    ProposalLimits,
    ProposalStep,
    ProposalSteps,
    propose,
    propose_per_level,
)
from .nn.rpn import build_rpn_model, rpn_graph, rpn_of_levels  # noqa: F401
from .training.network import Network, TrainingNetwork
from .training.validation import MeanAveragePrecisionCallback  # noqa: F401


def __getattr__(name: str) -> Any:
    if name == "utils":  # scripts take it from here
        return importlib.import_module("mrcnn.utils")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --- Proposals (Faster R-CNN, Ren 2015, section 3.1) ---


@keras.saving.register_keras_serializable("mrcnn")
class ProposalLayer(KL.Layer):
    """`[B, N, (y1, x1, y2, x2)]` normalized proposals, best first, zero-padded; see `propose`.

    Inputs: rpn_probs `[B, A, 2]`, rpn_bbox `[B, A, 4]` deltas, anchors `[B, A, 4]` normalized; with
    PROPOSAL_SELECTION "per_level" also image_meta, and the probs of each level.
    proposal_count: N.
    pre_nms_limit: proposals before NMS; default PRE_NMS_LIMIT.
    """

    def __init__(
        self,
        proposal_count: int,
        nms_threshold: float,
        config: Any = None,
        pre_nms_limit: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.proposal_count = proposal_count
        self.nms_threshold = nms_threshold
        self.pre_nms_limit = pre_nms_limit

    def call(self, inputs):
        return self.steps(inputs).proposals

    def steps(self, inputs: list) -> ProposalSteps:
        """Return the result of every step, as `MaskRCNN.ancestor` offers them."""
        probs, deltas, anchors, *others = inputs
        limits = ProposalLimits(
            self.pre_nms_limit or self.config.PRE_NMS_LIMIT, self.proposal_count, self.nms_threshold
        )
        if not others:
            return propose(probs, deltas, anchors, self.config, limits)
        image_meta, *levels = others
        windows = normalized_windows(image_meta, self.config.CONTINUOUS_BOXES)
        counts = [ops.shape(level)[1] for level in levels]
        return propose_per_level(probs, deltas, anchors, windows, counts, self.config, limits)

    def compute_output_shape(self, input_shape):
        return (None, self.proposal_count, 4)


@keras.saving.register_keras_serializable("mrcnn")
class ScoredProposals(ProposalLayer):
    """`[B, N, (y1, x1, y2, x2, objectness)]`: scored proposals, the output with RPN_ONLY."""

    def call(self, inputs):
        steps = self.steps(inputs)
        return ops.concatenate([steps.proposals, steps.scores[..., None]], axis=-1)

    def compute_output_shape(self, input_shape):
        return (None, self.proposal_count, 5)


# --- Training: RoIs and their targets ---


@keras.saving.register_keras_serializable("mrcnn")
class DetectionTargetLayer(KL.Layer):
    """RoIs sampled from the proposals, and their targets; see `nn.targets.detection_targets`.

    Inputs: proposals, gt_class_ids, gt_boxes (normalized) and, with a mask head, gt_masks; without
    masks there are no target masks. With NUM_KEYPOINTS the last input is gt_keypoints (pixels).
    Each call draws a new sample, from the seed `Config.SEED`.
    """

    def __init__(self, config: Any, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.seed_generator = keras.random.SeedGenerator(config.SEED or 0)

    def call(self, inputs):
        proposals, gt_class_ids, gt_boxes, *others = inputs
        keypoints = others.pop() if self.config.NUM_KEYPOINTS else None
        masks = others[0] if others else None
        if self.config.ROIS_INCLUDE_GT:
            count = proposals.shape[1] + self.config.MAX_GT_INSTANCES
            real_boxes = gt_boxes * ops.cast(gt_class_ids > 0, "float32")[..., None]
            proposals = ops.concatenate([proposals, real_boxes], axis=1)
            proposals = tf.ensure_shape(proposals, [None, count, 4])
        batch, count = ops.shape(proposals)[:2]
        priorities = targets.draw_priorities(batch, count, self.seed_generator)
        outputs = targets.detection_targets(
            proposals, gt_class_ids, gt_boxes, masks, priorities, self.config, keypoints
        )
        return [ops.stop_gradient(output) for output in outputs if output is not None]

    def compute_output_spec(self, inputs):
        shapes = self.compute_output_shape([x.shape for x in inputs])
        dtypes = ["float32", "int32", "float32", "float32", "float32"]
        return [keras.KerasTensor(*spec) for spec in zip(shapes, dtypes, strict=False)]

    def compute_output_shape(self, input_shape):
        count, mask_shape = self.config.TRAIN_ROIS_PER_IMAGE, self.config.MASK_SHAPE
        shapes = [(None, count, 4), (None, count), (None, count, 4), (None, count, *mask_shape)]
        keypoints = self.config.NUM_KEYPOINTS
        if not keypoints:
            return shapes[: len(input_shape)]
        return [*shapes[: len(input_shape) - 1], (None, count, keypoints, 3)]

    def compute_mask(self, inputs, mask=None):
        return [None] * len(inputs)


# --- Inference: detections ---


@keras.saving.register_keras_serializable("mrcnn")
class DetectionLayer(KL.Layer):
    """`[B, D, (y1, x1, y2, x2, class_id, score)]` detections; see `refine_detections`.

    Inputs: rois, mrcnn_class, mrcnn_bbox, image_meta.
    """

    def __init__(self, config: Any = None, **kwargs):
        super().__init__(**kwargs)
        self.config = config

    def call(self, inputs):
        rois, probs, deltas, image_meta = inputs
        windows = normalized_windows(image_meta, self.config.CONTINUOUS_BOXES)
        return refine_detections(rois, probs, deltas, windows, self.config)

    def compute_output_shape(self, input_shape):
        return (None, self.config.DETECTION_MAX_INSTANCES, 6)


def mask_rcnn_outputs(outputs: list, config: Config) -> list:
    """Choose what `Detector` reads from the outputs of an inference network.

    Returns: detections `[B, D, 6]`, class probabilities `[B, N, NUM_CLASSES]` and, with a mask
        head, the mask of each detection's own class, `[B, D, h, w, 1]`; with a keypoint head, its
        heatmaps `[B, D, h, w, K]` last. With RPN_ONLY all outputs, scored proposals first.
    """
    if config.RPN_ONLY:
        return list(outputs)
    detections, class_probs, _, *others = outputs
    heads = [detections, class_probs]
    if config.USE_MASK:
        heads.append(select_class_masks(others.pop(0), detections[..., 4]))
    if config.NUM_KEYPOINTS:
        heads.append(others[0])
    return heads


# --- The two networks ---


class SharedNetwork(NamedTuple):
    """The part of the network that training and inference share."""

    image: Any  # [B, H, W, C]
    image_meta: Any  # [B, IMAGE_META_SIZE]
    anchors: Any  # [B, A, 4] normalized
    roi_levels: list  # the pyramid levels (or only C4) that the heads read, [B, h, w, C]
    rpn: dict[str, Any]  # rpn_class_logits, rpn_class [B, A, 2], rpn_bbox [B, A, 4]
    proposals: Any  # [B, N, 4], with RPN_ONLY [B, N, 5]
    stage5: Any  # the model of a head "res5", which class, box and mask branch share; or None


def _class_head(shared: SharedNetwork, rois: Any, config: Config, counted: Any = None):
    """Logits, probs and deltas; and with a head "res5" its features `[B, N, h, w, C]`."""
    levels, image_meta = shared.roi_levels, shared.image_meta
    if shared.stage5 is None:
        return class_head(rois, levels, image_meta, config, counted), None
    name = "roi_align_classifier"
    features = stage5_features(rois, levels, image_meta, shared.stage5, config, name)
    return class_outputs(ops.mean(features, axis=(2, 3)), config), features


def _mask_head(
    shared: SharedNetwork, rois: Any, config: Config, counted: Any = None, features=None
):
    """Masks `[B, N, h, w, NUM_CLASSES]`. features: of a head "res5", if they are known already."""
    levels, image_meta = shared.roi_levels, shared.image_meta
    if shared.stage5 is None:
        return mask_head(rois, levels, image_meta, config, counted)
    if features is None:
        name = "roi_align_mask"
        features = stage5_features(rois, levels, image_meta, shared.stage5, config, name)
    return mask_outputs(features, config)


def _build_inference(shared: SharedNetwork, config: Config) -> MaskRCNNInference:
    """proposals -> class and box head -> detections -> mask head."""
    inputs = [shared.image, shared.image_meta, shared.anchors]
    outputs = [shared.proposals, shared.rpn["rpn_class"], shared.rpn["rpn_bbox"]]
    if config.RPN_ONLY:
        mark_as_read(shared.image_meta)
        return MaskRCNNInference(inputs, outputs, name="mask_rcnn")
    rois = shared.proposals
    (_, probs, deltas), _ = _class_head(shared, rois, config)
    if config.cascade_stages():
        rois, probs, deltas = cascade_inference(rois, probs, deltas, shared, config)
    detect = DetectionLayer(config, name="mrcnn_detection", **FLOAT32)
    detections = detect([rois, probs, deltas, shared.image_meta])
    heads = [detections, probs, deltas]
    boxes = detections[..., :4]
    if config.USE_MASK:
        heads.append(_mask_head(shared, boxes, config))
    if config.NUM_KEYPOINTS:
        heads.append(keypoint_head(boxes, shared.roi_levels, shared.image_meta, config))
    return MaskRCNNInference(inputs, [*heads, *outputs], name="mask_rcnn")


def _build_training(shared: SharedNetwork, config: Config) -> MaskRCNNTraining:
    """proposals -> RoIs and targets -> class, box and mask head; outputs by name."""
    rpn_match = keras.Input([None, 1], name="input_rpn_match", dtype="int32")
    target_deltas = keras.Input([config.RPN_TRAIN_ANCHORS_PER_IMAGE, 4], name="input_rpn_bbox")
    mark_as_read(shared.image_meta, rpn_match, target_deltas)
    inputs = [shared.image, shared.image_meta, rpn_match, target_deltas]
    if config.RPN_ONLY:
        return MaskRCNNTraining(inputs, shared.rpn, name="mask_rcnn", config=config)
    gt_class_ids, gt_boxes, *gt_others = _ground_truth_inputs(config)
    inputs += [gt_class_ids, gt_boxes, *gt_others]
    normalize = NormalizeBoxes(config.CONTINUOUS_BOXES, name="gt_boxes", **FLOAT32)
    gt_boxes = normalize([gt_boxes, shared.image])
    proposals = shared.proposals
    if not config.USE_RPN_ROIS:
        rois = keras.Input([config.POST_NMS_ROIS_TRAINING, 4], name="input_roi", dtype="int32")
        inputs.append(rois)
        normalize = NormalizeBoxes(config.CONTINUOUS_BOXES, name="input_roi_normalized", **FLOAT32)
        proposals = normalize([rois, shared.image])
    sample = DetectionTargetLayer(config, name="proposal_targets", **FLOAT32)
    sampled = sample([proposals, gt_class_ids, gt_boxes, *gt_others])
    outputs = {**shared.rpn, "rpn_rois": shared.proposals}
    outputs |= _training_heads(shared, sampled, config)
    outputs |= cascade_stages(outputs, [gt_class_ids, gt_boxes], shared, config)
    return MaskRCNNTraining(inputs, outputs, name="mask_rcnn", config=config)


def _ground_truth_inputs(config: Config) -> list:
    """Class ids `[B, M]`, boxes `[B, M, 4]` pixels and, with a mask head, masks `[B, H, W, M]`.

    With a keypoint head, keypoints `[B, M, K, (y, x, visibility)]` in pixels come last.
    """
    class_ids = keras.Input([None], name="input_gt_class_ids", dtype="int32")
    inputs = [class_ids, keras.Input([None, 4], name="input_gt_boxes")]
    if config.USE_MASK:
        inputs.append(_mask_input(config))
    if config.NUM_KEYPOINTS:
        inputs.append(keras.Input([None, config.NUM_KEYPOINTS, 3], name="input_gt_keypoints"))
    return inputs


def _mask_input(config: Config) -> Any:
    """`[B, H, W, M]` bool ground-truth masks, or mini-masks."""
    if config.USE_MINI_MASK:
        height, width = config.MINI_MASK_SHAPE
    elif config.IMAGE_RESIZE_MODE in ANY_SIZE_MODES:
        height, width = None, None
    else:
        height, width = (int(side) for side in config.IMAGE_SHAPE[:2])
    return keras.Input([height, width, None], name="input_gt_masks", dtype="bool")


def _training_heads(shared: SharedNetwork, sampled: list, config: Config) -> dict[str, Any]:
    """The outputs of the heads for the sampled RoIs, and their targets."""
    rois, target_class_ids, target_bbox, *others = sampled
    slots = targets.positive_slots(config)
    is_roi, is_positive = None, None  # matterport: batch norm of the heads sees padding as well
    if config.ROI_SAMPLING == "fill":
        is_roi, is_positive = ops.any(rois != 0, axis=-1), target_class_ids[:, :slots] > 0
    (logits, probs, deltas), features = _class_head(shared, rois, config, is_roi)
    outputs = {
        "output_rois": rois,
        "target_class_ids": target_class_ids,
        "target_bbox": target_bbox,
        "mrcnn_class_logits": logits,
        "mrcnn_class": probs,
        "mrcnn_bbox": deltas,
    }
    # Positives come first, so these heads compute only slots that can have a target.
    positives = rois[:, :slots]
    if config.USE_MASK:
        if features is not None:
            features = features[:, :slots]
        outputs["target_mask"] = others[0]
        outputs["mrcnn_mask"] = _mask_head(shared, positives, config, is_positive, features)
    if config.NUM_KEYPOINTS:
        heatmaps = keypoint_head(positives, shared.roi_levels, shared.image_meta, config)
        cells = KeypointCells(heatmaps.shape[2], config.CONTINUOUS_BOXES, **FLOAT32)
        outputs["target_keypoints"] = cells([positives, others[-1][:, :slots], shared.image])
        outputs["mrcnn_keypoint"] = heatmaps
    return outputs


def mask_rcnn_losses(inputs: list, outputs: dict[str, Any], config: Config) -> dict[str, tuple]:
    """Return `(numerator, count)` of each loss that the network has."""
    _, meta, rpn_match, rpn_bbox, *_ = inputs
    gamma = config.FOCAL_GAMMA
    per_sampled = config.LOSS_DENOMINATOR == "sampled"
    halves = {
        "rpn_class_loss": losses.rpn_class_loss(rpn_match, outputs["rpn_class_logits"], gamma),
        "rpn_bbox_loss": losses.rpn_bbox_loss(
            rpn_bbox, rpn_match, outputs["rpn_bbox"], config.RPN_SMOOTH_L1_BETA, per_sampled
        ),
    }
    if "mrcnn_bbox" in outputs:
        target_class_ids = outputs["target_class_ids"]
        is_roi = ops.any(outputs["output_rois"] != 0, axis=-1) if per_sampled else None
        halves["mrcnn_class_loss"] = losses.mrcnn_class_loss(
            target_class_ids,
            outputs["mrcnn_class_logits"],
            split_image_meta(meta)["active_class_ids"],
            config.CLASS_WEIGHTS,
            gamma,
            is_roi,
        )
        halves["mrcnn_bbox_loss"] = losses.mrcnn_bbox_loss(
            outputs["target_bbox"],
            target_class_ids,
            outputs["mrcnn_bbox"],
            config.BOX_SMOOTH_L1_BETA,
            is_roi,
        )
    halves |= cascade_losses(outputs, meta, config)
    if "mrcnn_mask" in outputs:
        halves["mrcnn_mask_loss"] = losses.mrcnn_mask_loss(
            outputs["target_mask"], outputs["target_class_ids"], outputs["mrcnn_mask"]
        )
    if config.has_keypoint_head():
        halves[KEYPOINT_LOSS] = losses.mrcnn_keypoint_loss(
            outputs["target_keypoints"], outputs["mrcnn_keypoint"]
        )
    return halves


# --- Networks that Keras saves and loads whole ---


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNNInference(Network):
    """The network that detects, see `MaskRCNN.build`; Keras saves and loads it whole."""

    read_outputs = staticmethod(mask_rcnn_outputs)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return network_from_config("inference", config, custom_objects)


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNNTraining(TrainingNetwork):
    """The network that trains, see `MaskRCNN.build`; Keras saves and loads it whole."""

    def losses(self, inputs, outputs):
        return mask_rcnn_losses(inputs, outputs, self.config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return network_from_config("training", config, custom_objects)


# A whole `.h5` names its class without the package, so Keras needs the bare names too.
for network_class in (MaskRCNNInference, MaskRCNNTraining):
    keras.saving.get_custom_objects()[network_class.__name__] = network_class


# --- MaskRCNN ---


class MaskRCNN(DetectionModel):
    """Mask R-CNN, Faster R-CNN (USE_MASK = False) or only the RPN (RPN_ONLY = True).

        model = MaskRCNN.from_weights("coco.h5")
        (result,) = model.detect([image])  # [H, W, 3] uint8
        for box, class_id, score in zip(result["rois"], result["class_ids"], result["scores"]):
            print(model.class_names[class_id], score, box)  # box: (y1, x1, y2, x2) in pixels
        result["masks"]  # [H, W, N] bool

    mode: "training" or "inference". config: a `Config`. model_dir: where training writes its logs.
    `keras_model` is the Keras network, `class_names` come from the weight file or the dataset.
    """

    network_name = "mask_rcnn"
    read_outputs = staticmethod(mask_rcnn_outputs)

    def build(self, mode: str, config: Any) -> keras.Model:
        """Build the Keras network of a mode.

        Inference: inputs image, image_meta, anchors (normalized); outputs mrcnn_detection,
        mrcnn_class, mrcnn_bbox, mrcnn_mask, ROI, rpn_class, rpn_bbox.
        Training: inputs image, image_meta, rpn_match, rpn_bbox (targets), gt_class_ids, gt_boxes
        (pixels), gt_masks[, rois]; outputs by name, for the losses.

        USE_MASK = False: no mask head, no gt_masks. NUM_KEYPOINTS: gt_keypoints (pixels) after
        gt_masks, and mrcnn_keypoint (heatmaps) after mrcnn_mask. RPN_ONLY: no heads; rpn_bbox is
        the last input of training, and inference returns scored proposals, rpn_class, rpn_bbox.
        """
        return super().build(mode, config)

    def _build(self, mode: str, config: Config) -> keras.Model:
        image = keras.Input([None, None, int(config.IMAGE_SHAPE[2])], name="input_image")
        image_meta = keras.Input([config.IMAGE_META_SIZE], name="input_image_meta")
        maps = feature_maps(image, config)
        stage5 = None
        if config.has_pyramid():
            pooled_levels = max(0, len(config.BACKBONE_STRIDES) - len(maps))
            pyramid = fpn_graph(maps, config, pooled_levels)
            rpn_levels = pyramid[: len(config.RPN_ANCHOR_SCALES)]
            roi_levels = pyramid[: len(maps)]
        else:
            rpn_levels = roi_levels = maps  # only C4
            if config.BOX_HEAD == "res5":
                stage5 = build_stage5_model(maps[0].shape[-1], config)
        rpn, level_probs = rpn_of_levels(rpn_levels, config)
        if mode == "inference":
            anchors = keras.Input([None, 4], name="input_anchors")
            count, limit = config.POST_NMS_ROIS_INFERENCE, config.PRE_NMS_LIMIT_INFERENCE
        else:
            anchors = self.anchors_of(image, rpn_levels, config)
            count, limit = config.POST_NMS_ROIS_TRAINING, None
        proposal_layer = ScoredProposals if config.RPN_ONLY else ProposalLayer
        propose_rois = proposal_layer(
            count, config.RPN_NMS_THRESHOLD, config, limit, name="ROI", **FLOAT32
        )
        proposal_inputs = [rpn["rpn_class"], rpn["rpn_bbox"], anchors]
        if config.PROPOSAL_SELECTION == "per_level":
            proposal_inputs += [image_meta, *level_probs]
        proposals = propose_rois(proposal_inputs)
        shared = SharedNetwork(image, image_meta, anchors, roi_levels, rpn, proposals, stage5)
        finish = _build_inference if mode == "inference" else _build_training
        return finish(shared, config)

    def ancestor(self, tensor: Any, name: str, checked: Any = None) -> Any:
        """Return the tensor of a name in the network, for `run_graph`, or None.

        name: of a layer, or of a step of the proposal layer, `ROI/refined_anchors:0` and so on
            with the names in `nn.proposals.STEP_NAMES`.
        tensor, checked: unused.
        """
        layer_name, *step = name.split(":")[0].split("/")
        layers = {layer.name: layer for layer in self.keras_model.layers}
        layer = layers.get(layer_name)
        if layer is None:
            return None
        if not step or not isinstance(layer, ProposalLayer):
            return layer.output
        if step[0] not in STEP_NAMES:
            return None
        return ProposalStep(layer, step[0])(layer.input)
