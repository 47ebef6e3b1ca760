"""matterport's `utils.*` names, `Dataset` first, each handed on from its room.

Scripts import them from here; nothing in `mrcnn/` does. What this file adds are the original's names, types and
corner cases where they differ from the room's own function.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree  # noqa: F401  scripts that import xml.etree take ElementTree from it

import numpy as np

from .data.dataset import Dataset
from .data.image import resize, resize_image
from .data.masks import (
    expand_mask,
    extract_bboxes,
    minimize_mask,
    resize_mask,
    unmold_mask,
)
from .data.masks import masks_iou as compute_overlaps_masks
from .evaluation.matching import (
    compute_ap,
    compute_ap_range,
    compute_matches,
    compute_recall,
    trim_zeros,
)
from .files.download import download
from .nn.anchors import generate_anchors, generate_pyramid_anchors
from .nn.boxes import area, decode, encode, iou, non_max_suppression
from .nn.boxes import denormalize as denorm_boxes
from .nn.boxes import normalize as norm_boxes
from .weights.zoo import COCO_MODEL_MD5, COCO_MODEL_SIZE, COCO_MODEL_URL

__all__ = [
    "COCO_MODEL_URL",
    "Dataset",
    "apply_box_deltas",
    "batch_slice",
    "box_refinement",
    "box_refinement_graph",
    "compute_ap",
    "compute_ap_range",
    "compute_iou",
    "compute_matches",
    "compute_overlaps",
    "compute_overlaps_masks",
    "compute_recall",
    "denorm_boxes",
    "download_trained_weights",
    "expand_mask",
    "extract_bboxes",
    "generate_anchors",
    "generate_pyramid_anchors",
    "minimize_mask",
    "mold_mask",
    "non_max_suppression",
    "norm_boxes",
    "resize",
    "resize_image",
    "resize_mask",
    "trim_zeros",
    "unmold_mask",
]

log = logging.getLogger("mrcnn")


def mold_mask(mask, config):
    """Return the masks unchanged; matterport's function had an empty body."""
    return mask


def compute_iou(box, boxes, box_area, boxes_area) -> np.ndarray:
    """`[N]` IoU of one box with many, whose areas are given; nan where both are empty.

    box: `(y1, x1, y2, x2)`. boxes: `[N, (y1, x1, y2, x2)]`. box_area: number. boxes_area: `[N]`.
    """
    box, boxes = np.asarray(box), np.asarray(boxes)
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(
        box[:2], boxes[:, :2]
    )  # [N, (height, width)]
    intersection = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(invalid="ignore"):
        return intersection / (box_area + boxes_area - intersection)


def compute_overlaps(boxes1, boxes2) -> np.ndarray:
    """`[N, M]` float64 IoU of every pair; nan where both boxes are empty (`boxes.iou` says 0).

    boxes1: `[N, (y1, x1, y2, x2)]`. boxes2: `[M, (y1, x1, y2, x2)]`.
    """
    boxes1, boxes2 = np.asarray(boxes1), np.asarray(boxes2)
    both_empty = (area(boxes1)[:, None] == 0) & (area(boxes2)[None] == 0)
    return np.where(both_empty, np.nan, iou(boxes1, boxes2).astype(np.float64))


def apply_box_deltas(boxes, deltas) -> np.ndarray:
    """`[N, (y1, x1, y2, x2)]` float32 boxes moved and stretched by the deltas; see `boxes.decode`."""
    return decode(np.asarray(boxes, np.float32), np.asarray(deltas)).astype(np.float32)


def box_refinement(box, gt_box) -> np.ndarray:
    """`[N, (dy, dx, log(dh), log(dw))]` float32 deltas from boxes to gt boxes; see `boxes.encode`."""
    return encode(np.asarray(box, np.float32), np.asarray(gt_box, np.float32))


def box_refinement_graph(box, gt_box):
    """`box_refinement` for tensors."""
    from keras import ops

    return encode(ops.cast(box, "float32"), ops.cast(gt_box, "float32"))


def batch_slice(inputs, graph_fn, batch_size, names=None):
    """What `graph_fn` makes of each image of the batch, stacked: a tensor, or a list where it returns several.

    inputs: a tensor or a list of tensors, the batch in front. graph_fn: called once an image with its slice of
    each input. batch_size: number of images. names: kept for its place; tensors of Keras 3 are not named this way.
    """
    from keras import ops

    inputs = inputs if isinstance(inputs, list) else [inputs]
    rows = [graph_fn(*[tensor[i] for tensor in inputs]) for i in range(batch_size)]
    rows = [row if isinstance(row, list | tuple) else [row] for row in rows]
    columns = [ops.stack(column) for column in zip(*rows, strict=True)]
    return columns[0] if len(columns) == 1 else columns


def download_trained_weights(coco_model_path, verbose=1) -> None:
    """Put the released COCO weights (`COCO_MODEL_URL`, 246 MB) at this path; a whole one already there is kept.

    Raises: DownloadError naming the URL, the path and what to do; nothing half-written stays behind.
    """
    if verbose > 0:
        log.info("Downloading the COCO weights to %s ...", coco_model_path)
    download(COCO_MODEL_URL, coco_model_path, md5=COCO_MODEL_MD5, size=COCO_MODEL_SIZE)
