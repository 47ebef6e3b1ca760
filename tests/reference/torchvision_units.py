"""Single operations of torchvision and detectron2: inputs and outputs, recorded.

`python tests/reference/torchvision_units.py SHARED` chooses one case of each operation for the
repository. SHARED is the folder of the full recordings, described in its
`reference/torchvision/README.md`. Boxes are `(x1, y1, x2, y2)` in pixels, maps `[B, C, H, W]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ARCHIVE = Path(__file__).with_name("torchvision_units.npz")
# Operation -> the recorded arrays that the repository holds whole.
CHOSEN = {
    "roi_align": (
        *("maps", "rois_in_map_pixels", "cases_aligned_sampling_size_scale", "out_7", "out_15"),
        *("grad_aligned1_sampling0", "grad_weights"),
    ),
    "levels": ("boxes", "torchvision_level_minus_2", "detectron2_level_minus_2"),
    "nms": tuple(
        f"{name}_{case}"
        for case in (0, 4, 7, 9)
        for name in ("boxes", "scores", "threshold", "kept", "groups")
    ),
    "boxes": (
        *("boxes", "gt", "deltas", "encode_1", "decode_1", "encode_10_5", "decode_10_5"),
        *("clip_200_250", "match_gt", "match_anchors", "match_rpn", "match_roi"),
        "match_retinanet",
    ),
    "anchors": tuple(
        f"{network}_{name}"
        for network in ("rcnn", "retinanet")
        for name in ("cells", *(f"32x64_{x}" for x in ("sizes", "strides", "count", "last")))
    ),
    "losses": (
        *("focal_x", "focal_t", "focal_a0.25_g2.0", "focal_a0.25_g2.0_grad"),
        *("iou_b1", "iou_b2", "giou", "giou_grad"),
    ),
    "layers": tuple(
        f"{name}_10x13"
        for name in (
            *("x", "k7", "k3", "conv7_s2_p3", "conv3_s2_p1", "maxpool3_s2_p1", "p6_maxpool1_s2"),
            *("nearest_double", "d2", "deconv2_s2"),
        )
    ),
}


def read(operation: str, shared: Path | None = None) -> dict[str, np.ndarray]:
    """Every recorded array of an operation if there is SHARED, else those of the repository."""
    if shared is not None:
        with np.load(shared / "reference" / "torchvision" / "unit" / f"{operation}.npz") as file:
            return dict(file)
    found = {}
    with np.load(ARCHIVE) as file:
        for key in file.files:
            owner, _, name = key.partition("|")
            if owner == operation:
                found[name] = file[key]
    return found


def choose(shared: Path) -> dict[str, np.ndarray]:
    """The arrays for the repository: `operation|name` -> array."""
    chosen = {}
    for operation, names in CHOSEN.items():
        recorded = read(operation, shared)
        for name in names:
            if name in recorded:
                chosen[f"{operation}|{name}"] = recorded[name]
    layers = read("layers", shared)
    for name in ("group_norm_x", "group_norm_32"):
        chosen[f"layers|{name}"] = layers[name][:1]  # one image of two
    for name in ("group_norm_w", "group_norm_b"):
        chosen[f"layers|{name}"] = layers[name]
    return chosen


if __name__ == "__main__":
    np.savez_compressed(ARCHIVE, **choose(Path(sys.argv[1])))
