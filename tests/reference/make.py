"""Choose the recorded numbers for the repository: `python tests/reference/make.py SHARED`.

SHARED is the folder of the full recordings. Numbers that no tested output depends on are set to
zero, because zeros compress; everything else is copied bit by bit.
"""

from __future__ import annotations

import io
import lzma
import sys
from pathlib import Path

import numpy as np

ARCHIVE = Path(__file__).with_name("parity.npz.xz")
RESIZED = ("noise_none", "noise_crop", "noise_crop_scale", "noise_pad64")
PRE_NMS_LIMIT = 6000  # proposals come from the anchors with the best scores


def read() -> dict[str, dict[str, np.ndarray]]:
    """The archive in the repository: name of a recording -> key -> array."""
    content = io.BytesIO(lzma.decompress(ARCHIVE.read_bytes()))
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(content, allow_pickle=False) as file:
        for key in file.files:
            recording, _, name = key.partition("|")
            found.setdefault(recording, {})[name] = file[key]
    return found


def choose(shared: Path) -> dict[str, dict[str, np.ndarray]]:
    """The same from the full recordings."""
    full, mini = (_load(shared, f"training_{kind}_masks") for kind in ("full", "mini"))
    return {
        "helpers": helpers(_load(shared, "helpers")),
        "inference_0": inference(_load(shared, "inference_0")),
        "training_full_masks": training(full),
        "training_mini_masks": training(mini),
    }


def helpers(recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All cases but most of `resize_image`, whose images are large."""
    chosen = {}
    for key, value in recorded.items():
        function, _, rest = key.partition("/")
        if function != "resize_image" or rest.startswith(tuple(f"{case}/" for case in RESIZED)):
            chosen[key] = value
    return chosen


def inference(recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs and outputs of the proposal layer and the detection layer."""
    scores = recorded["rpn_class"].copy()
    deltas = recorded["rpn_bbox"].copy()
    low = np.argsort(-scores[0, :, 1], kind="stable")[PRE_NMS_LIMIT:]
    scores[:, :, 0] = 0
    scores[0, low] = 0
    deltas[0, low] = 0
    keys = ("rpn_rois", "mrcnn_class", "image_metas", "detections", "config_json")
    chosen = {key: recorded[key] for key in keys}
    best = recorded["mrcnn_class"][..., None].argmax(axis=2, keepdims=True) == np.arange(4)[:, None]
    boxes = np.where(best, recorded["mrcnn_bbox"], np.float32(0))
    return {**chosen, "rpn_class": scores, "rpn_bbox": deltas, "mrcnn_bbox": boxes}


def training(recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs and outputs of the target layer and of the losses."""
    inputs = ("in_image_meta", "in_rpn_match", "in_rpn_bbox", "in_gt_class_ids", "in_gt_boxes")
    targets = ("tgt_rois", "tgt_class_ids", "tgt_bbox", "tgt_mask")
    outputs = ("out_rpn_rois", "out_mrcnn_class_logits", "out_mrcnn_bbox")
    chosen = {key: recorded[key] for key in (*inputs, *targets, *outputs)}
    chosen |= {key: value for key, value in recorded.items() if key.endswith("_loss")}
    chosen |= {"in_gt_masks": recorded["in_gt_masks"], "config_json": recorded["config_json"]}
    match = recorded["in_rpn_match"]
    chosen["out_rpn_class_logits"] = recorded["out_rpn_class_logits"] * (match != 0)
    chosen["out_rpn_bbox"] = recorded["out_rpn_bbox"] * (match == 1)
    class_ids = recorded["tgt_class_ids"]
    own = (class_ids[..., None] == np.arange(4)) & (class_ids[..., None] > 0)
    chosen["out_mrcnn_mask"] = recorded["out_mrcnn_mask"] * own[:, :, None, None]
    return chosen


def _load(shared: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(shared / "reference" / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def main() -> None:
    arrays = {}
    for recording, chosen in choose(Path(sys.argv[1])).items():
        arrays.update({f"{recording}|{key}": value for key, value in chosen.items()})
    content = io.BytesIO()
    np.savez(content, **arrays)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    ARCHIVE.write_bytes(lzma.compress(content.getvalue(), filters=filters))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
