"""matterport's `utils.*` names, imported from their modules.

Scripts import them from here; `mrcnn/` itself does not. The functions below keep the original's
names, types and corner cases that differ from those of our own functions.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree  # noqa: F401  old scripts import xml.etree only
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from .weights.zoo_table import COCO_MODEL_MD5, COCO_MODEL_SIZE, COCO_MODEL_URL

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


def mold_mask(mask: np.ndarray, config: Any) -> np.ndarray:
    """Return the masks unchanged; matterport's function had an empty body."""
    return mask


def compute_iou(
    box: np.ndarray, boxes: np.ndarray, box_area: float, boxes_area: np.ndarray
) -> np.ndarray:
    """Return the IoU of one box with many whose areas are known; nan if both are empty.

    Args:
        box: `(y1, x1, y2, x2)`.
        boxes: `[N, (y1, x1, y2, x2)]`.
        box_area: area of `box`.
        boxes_area: `[N]` areas of `boxes`.

    Returns: `[N]`.
    """
    box, boxes = np.asarray(box), np.asarray(boxes)
    ends = np.minimum(box[2:], boxes[:, 2:])
    sides = ends - np.maximum(box[:2], boxes[:, :2])  # [N, (height, width)]
    intersection = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(invalid="ignore"):
        return intersection / (box_area + boxes_area - intersection)


def compute_overlaps(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the `[N, M]` float64 IoU of every pair; nan if both boxes are empty, as matterport.

    boxes1: `[N, (y1, x1, y2, x2)]`. boxes2: `[M, (y1, x1, y2, x2)]`.
    """
    boxes1, boxes2 = np.asarray(boxes1), np.asarray(boxes2)
    both_empty = (area(boxes1)[:, None] == 0) & (area(boxes2)[None] == 0)
    return np.where(both_empty, np.nan, iou(boxes1, boxes2).astype(np.float64))


def apply_box_deltas(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Return `[N, (y1, x1, y2, x2)]` float32 boxes with the deltas applied; see `boxes.decode`."""
    return decode(np.asarray(boxes, np.float32), np.asarray(deltas)).astype(np.float32)


def box_refinement(box: np.ndarray, gt_box: np.ndarray) -> np.ndarray:
    """Return float32 deltas from boxes to ground truth boxes, both `[N, 4]`; see `boxes.encode`."""
    return encode(np.asarray(box, np.float32), np.asarray(gt_box, np.float32))


def box_refinement_graph(box: Any, gt_box: Any) -> Any:
    """`box_refinement` for tensors."""
    from keras import ops

    return encode(ops.cast(box, "float32"), ops.cast(gt_box, "float32"))


def batch_slice(
    inputs: Any, graph_fn: Callable[..., Any], batch_size: int, names: list[str] | None = None
) -> Any:
    """Apply `graph_fn` to each image of a batch and stack the results.

    Args:
        inputs: a tensor `[B, ...]`, or a list of them.
        graph_fn: called for each image with its slice of each input.
        batch_size: number of images.
        names: unused; tensors of Keras 3 are not named.

    Returns: a tensor `[B, ...]`, or a list of them if `graph_fn` returns several.
    """
    from keras import ops

    inputs = inputs if isinstance(inputs, list) else [inputs]
    rows = []
    for i in range(batch_size):
        outputs = graph_fn(*[tensor[i] for tensor in inputs])
        rows.append(outputs if isinstance(outputs, list | tuple) else [outputs])
    columns = [ops.stack(column) for column in zip(*rows, strict=True)]
    return columns[0] if len(columns) == 1 else columns


def download_trained_weights(coco_model_path: str | Path, verbose: int = 1) -> None:
    """Download the released COCO weights (`COCO_MODEL_URL`, 246 MB) unless the file is complete.

    Raises: DownloadError with the URL, the path and the remedy; no incomplete file is left.
    """
    if verbose > 0:
        log.info("Downloading the COCO weights to %s ...", coco_model_path)
    download(COCO_MODEL_URL, coco_model_path, md5=COCO_MODEL_MD5, size=COCO_MODEL_SIZE)
