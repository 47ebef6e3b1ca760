"""`mrcnn check`: faults in a dataset, as text, JSON and a contact sheet."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ..config import Config
from ..data import check
from ..data.dataset import Dataset, has_boxes_only
from ..data.image import resize_image
from ..data.keypoints import resize_keypoints
from ..data.masks import boxes_to_masks, extract_bboxes, resize_mask
from ..drawing import pages
from ..drawing.instances import draw_instances
from ..formats.open_dataset import split_folders
from .auto_sizes import wanted_sides
from .cli_support import (
    FAILED,
    OK,
    make_folder,
    own_names,
    read_config,
    save_image,
    say,
    validated,
    with_network,
    with_preset,
    write_json,
)
from .data_option import SHAPES_TO_TRAIN, data_options, open_data
from .training_defaults import CPU_PRESET

SHEET_IMAGES, SHEET_COLUMNS, SHEET_SIDE = 12, 4, 480


def run(args) -> int:
    """Run `mrcnn check` on a dataset, or on both parts of a folder with train and val."""
    out = None if args.out is None else Path(args.out)
    config = read_config(with_network(args.config, args.network))
    parts = split_folders(args.data)
    if parts is None:
        dataset, has_errors = _check(args, args.data, config, out)
        return FAILED if has_errors else OK
    class_names, any_errors = None, False
    for part, name in zip(parts, ("train", "val"), strict=True):
        say(f"--- {part}")
        folder = None if out is None else out / name
        dataset, has_errors = _check(args, str(part), config, folder, class_names)
        class_names = dataset.class_names
        any_errors = any_errors or has_errors
        say("")
    return FAILED if any_errors else OK


def _check(
    args, data: str, config: Config, out: Path | None, class_names: list[str] | None = None
) -> tuple[Dataset, bool]:
    """Check one dataset, print and write the report.

    Returns: the dataset, and whether it has errors.
    """
    dataset = open_data(data, class_names, SHAPES_TO_TRAIN, **data_options(args))
    if out is not None:
        make_folder(out, "--out")
    if not (args.config or args.network):
        config = _as_trained(config, dataset)
    if "NUM_CLASSES" not in own_names(config):
        config.NUM_CLASSES = dataset.num_classes
    report = check.check(dataset, validated(config), limit=args.limit, pixels=not args.no_pixels)
    say(report)
    if out is not None:
        write_json({"data": data, **report.to_dict()}, out / "check.json")
        bad = {finding.image_id for finding in report.errors}
        image_ids = [int(i) for i in dataset.image_ids[: args.limit] if i not in bad]
        written = "check.json"
        if image_ids:
            with_keypoints = config.has_keypoint_head()
            sheet = _contact_sheet(dataset, image_ids, not args.no_pixels, with_keypoints)
            save_image(sheet, out / "contact_sheet.png")
            written = "check.json and contact_sheet.png"
        say(f"\n{written} in {out.resolve()}")
    return dataset, bool(report.errors)


def _as_trained(config: Config, dataset: Dataset) -> Config:
    """Return the settings of network and images with which `mrcnn train` would begin here."""
    if shutil.which("nvidia-smi") is not None:  # a GPU, seen without TensorFlow
        return config
    config = with_preset(config, CPU_PRESET)
    side, _ = wanted_sides(dataset, has_gpu=False)
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = side
    say(
        f"Checked as `mrcnn train` would train here, without a GPU: PRESET={CPU_PRESET}, images of "
        f"{side} px (--config sets others)."
    )
    return config


def _contact_sheet(
    dataset: Dataset, image_ids: list[int], pixels: bool, with_keypoints: bool
) -> np.ndarray:
    """A page of at most 12 of the images, evenly spaced in the list, with their annotations.

    pixels: False draws on grey and reads no image. with_keypoints: whether keypoints are drawn.
    """
    count = min(len(image_ids), SHEET_IMAGES)
    chosen = [image_ids[i * len(image_ids) // count] for i in range(count)]
    tiles = [_annotated(dataset, image_id, pixels, with_keypoints) for image_id in chosen]
    return pages.contact_sheet(tiles, SHEET_COLUMNS)


def _annotated(dataset: Dataset, image_id: int, pixels: bool, with_keypoints: bool) -> np.ndarray:
    """`[H, W, 3]` uint8: one image with its annotations and a title."""
    if has_boxes_only(dataset):
        boxes, class_ids = dataset.load_bbox(image_id)
        # All readers of boxes have it; `Dataset` does not.
        size = dataset.image_size(image_id)  # pyright: ignore[reportAttributeAccessIssue]
        masks = boxes_to_masks(np.round(boxes).astype(int), size)
    else:
        masks, class_ids = dataset.load_mask(image_id)
    size = masks.shape[:2] if len(class_ids) else (64, 64)
    image = dataset.load_image(image_id) if pixels else np.full((*size, 3), 128, np.uint8)
    keypoints = dataset.load_keypoints(image_id) if with_keypoints else None
    drawn = _draw_small(image, masks, class_ids, dataset, keypoints)
    name = Path(dataset.image_info[image_id]["path"] or "").name
    return pages.titled(drawn, f"{image_id} {name[-32:]}: {len(class_ids)}")


def _draw_small(
    image: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    dataset: Dataset,
    keypoints: np.ndarray | None,
) -> np.ndarray:
    """Draw instances on an image resized to SHEET_SIDE pixels, so that labels stay legible."""
    if len(class_ids) == 0:
        masks = np.zeros((*image.shape[:2], 0), bool)  # load_mask may return any empty shape
        keypoints = None
    resized = resize_image(image, min_dim=SHEET_SIDE, max_dim=SHEET_SIDE)
    image, (y1, x1, y2, x2), scale, padding, crop = resized
    if keypoints is not None:
        keypoints = resize_keypoints(keypoints, scale, padding, crop, image.shape) - [y1, x1, 0]
    image = image[y1:y2, x1:x2]
    masks = resize_mask(masks, scale, padding)[y1:y2, x1:x2]
    # The name of an only class would cover objects.
    class_names, skeleton = dataset.class_names, dataset.keypoint_skeleton
    captions = [""] * len(class_ids) if len(class_names) == 2 else None
    return draw_instances(
        image,
        extract_bboxes(masks),
        masks,
        class_ids,
        class_names,
        captions=captions,
        keypoints=keypoints,
        skeleton=skeleton,
    )
