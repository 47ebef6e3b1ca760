"""Layers without weights and losses against recorded numbers that are part of the repository."""

import json

import numpy as np
import pytest
import tensorflow as tf
from reference import make

from mrcnn import model as modellib
from mrcnn import utils
from mrcnn.config import Config
from mrcnn.nn import boxes, targets

RECORDINGS = ["training_full_masks", "training_mini_masks"]


def config_of(recorded):
    return Config.from_dict(json.loads(str(recorded["config_json"])))


def test_archive_is_a_bit_equal_part_of_the_recordings(parity, shared):
    chosen = make.choose(shared)
    assert list(parity) == list(chosen)
    for recording, arrays in chosen.items():
        assert list(parity[recording]) == list(arrays)
        for key, value in arrays.items():
            np.testing.assert_array_equal(parity[recording][key], value, err_msg=key)


def test_archive_is_below_one_megabyte():
    assert make.ARCHIVE.stat().st_size < 1_000_000


def test_proposals(parity):
    recorded = parity["inference_0"]
    config = config_of(recorded)
    shapes = modellib.compute_backbone_shapes(config, (256, 256, 3))
    anchors = utils.generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        shapes,
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )
    anchors = utils.norm_boxes(anchors, (256, 256))
    layer = modellib.ProposalLayer(1000, config.RPN_NMS_THRESHOLD, config)
    inputs = (recorded["rpn_class"], recorded["rpn_bbox"], np.float32(anchors[None]))
    proposals = layer([tf.constant(array) for array in inputs])
    assert np.abs(proposals - recorded["rpn_rois"]).max() <= 1e-4


def test_detections(parity):
    recorded = parity["inference_0"]
    layer = modellib.DetectionLayer(config_of(recorded))
    keys = ("rpn_rois", "mrcnn_class", "mrcnn_bbox", "image_metas")
    found = np.asarray(layer([tf.constant(recorded[key], "float32") for key in keys]))
    expected = recorded["detections"]
    assert found.shape == expected.shape and (expected[..., 4] > 0).sum() == 100
    np.testing.assert_array_equal(found[..., 4], expected[..., 4])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", RECORDINGS)
def test_detection_targets(parity, name):
    """Falling priorities take the first candidates, as the recording did."""
    recorded = parity[name]
    proposals = tf.constant(recorded["out_rpn_rois"])
    priorities = tf.broadcast_to(tf.linspace(1.0, 0.1, 2000)[None], proposals.shape[:2])
    gt_boxes = boxes.normalize(recorded["in_gt_boxes"], (256, 256))
    ground_truth = (recorded["in_gt_class_ids"], gt_boxes, recorded["in_gt_masks"])
    config = config_of(recorded)
    found = targets.detection_targets(proposals, *ground_truth, priorities, config)
    rois, class_ids, deltas, masks, _ = found
    assert np.sum(recorded["tgt_class_ids"] > 0) == 73
    np.testing.assert_array_equal(class_ids, recorded["tgt_class_ids"])
    np.testing.assert_allclose(rois, recorded["tgt_rois"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(deltas, recorded["tgt_bbox"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(masks, recorded["tgt_mask"])


@pytest.mark.parametrize("name", RECORDINGS)
def test_losses(parity, name):
    recorded = parity[name]
    match = recorded["in_rpn_match"]
    class_ids, deltas = recorded["tgt_class_ids"], recorded["tgt_bbox"]
    active_class_ids = recorded["in_image_meta"][:, 12:]
    outputs = {key[4:]: recorded[key] for key in recorded if key.startswith("out_")}
    rpn_deltas = np.float32(recorded["in_rpn_bbox"])
    found = {
        "rpn_class_loss": modellib.rpn_class_loss_graph(match, outputs["rpn_class_logits"]),
        "rpn_bbox_loss": modellib.rpn_bbox_loss_graph(
            config_of(recorded), rpn_deltas, match, outputs["rpn_bbox"]
        ),
        "mrcnn_class_loss": modellib.mrcnn_class_loss_graph(
            class_ids, outputs["mrcnn_class_logits"], active_class_ids
        ),
        "mrcnn_bbox_loss": modellib.mrcnn_bbox_loss_graph(deltas, class_ids, outputs["mrcnn_bbox"]),
        "mrcnn_mask_loss": modellib.mrcnn_mask_loss_graph(
            recorded["tgt_mask"], class_ids, outputs["mrcnn_mask"]
        ),
    }
    for loss, value in found.items():
        np.testing.assert_allclose(value, outputs[loss], rtol=1e-5, err_msg=loss)
