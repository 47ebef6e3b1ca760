"""The faults of one image: what cannot be read, does not fit together, or is lost by resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask

from ..config import Config
from ..nn import boxes
from .check_report import SMALLEST_SIDE, Finding, count_noun
from .dataset import Dataset, has_rles, overrides, reference
from .image import match_channels, resize_image, to_uint8
from .masks import extract_bboxes, rle_areas


@dataclass
class ImageCheck:
    """What one image holds.

    class_ids: `[N]`, negative for crowds. boxes: `[N, (y1, x1, y2, x2)]` float, px after resizing. shape: (height,
    width) after resizing. Instances without a pixel or of an unknown class are left out. read: its masks could be read.
    """

    findings: list[Finding]
    class_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    shape: tuple[int, int] = (0, 0)
    read: bool = False

    @property
    def objects(self) -> int:
        return int(np.sum(self.class_ids > 0))


class Fault(Exception):
    """An image that cannot be looked at any further; the arguments are those of its `Finding`."""


def check_image(
    dataset: Dataset, image_id: int, config: Config, resizer: BoxResizer, pixels: bool
) -> ImageCheck:
    """What one image holds, and what is wrong with it."""
    where = _where(dataset, image_id)
    look = ImageCheck([])

    def find(kind, sentence, instances=()):
        look.findings.append(
            Finding(kind, sentence, image_id, where, tuple(int(i) for i in instances))
        )

    info = dataset.image_info[image_id]
    size = (info.get("height"), info.get("width"))
    unreadable = None
    if pixels:
        try:
            size = _image_size(dataset, image_id, config)
        except Fault as fault:
            find(*fault.args)
            unreadable = fault.args[1]
    try:
        truth = load_objects(dataset, image_id, config, size)
        if len(truth.class_ids) and None not in size and truth.size != tuple(size):
            raise Fault(
                "mask size",
                f"Its masks are {_by(truth.size)} and it is {_by(size)} px (height x width).",
            )
    except Fault as fault:
        if (
            fault.args[1] != unreadable
        ):  # some readers take the size of the masks from the image file
            find(*fault.args)
        return look
    look.read = True

    class_ids, pixel_boxes = truth.class_ids, truth.boxes
    empty = boxes.area(pixel_boxes) == 0
    wrong = ~empty & ((np.abs(class_ids) < 1) | (np.abs(class_ids) >= dataset.num_classes))
    if wrong.any():
        ids = sorted(set(class_ids[wrong].tolist()))
        sentence = f"Its class ids must be 1 to {dataset.num_classes - 1}, and some are {ids}."
        find("class id", sentence, wrong.nonzero()[0])
    odd = empty & (class_ids != 0)  # an empty mask of class 0 is how scripts say "nothing here"
    if odd.any():
        find("empty", f"{_objects(odd)} without a pixel.", odd.nonzero()[0])
    twins = _duplicates(truth)
    if twins:
        find("duplicate", f"{_objects(twins)} repeated.", twins)

    kept = ~empty & ~wrong
    if not kept.any():
        return look
    look.class_ids = class_ids[kept]
    look.boxes, look.shape, rounded = resizer.resize(pixel_boxes[kept], truth.size)
    places = kept.nonzero()[0]
    objects = look.class_ids > 0  # crowds teach no box
    vanishing = objects & (boxes.area(rounded) == 0)
    if vanishing.any():
        find("vanishing", f"{_objects(vanishing)} lost between pixels.", places[vanishing])
    sides = np.minimum(*(look.boxes[:, 2:] - look.boxes[:, :2]).T)
    tiny = objects & (sides < SMALLEST_SIDE) & ~vanishing
    if tiny.any():
        find("tiny", f"{_objects(tiny)} down to {sides[tiny].min():.1f} px.", places[tiny])
    if len(look.class_ids) > config.MAX_GT_INSTANCES:
        find(
            "crowded",
            f"It holds {len(look.class_ids)}, and MAX_GT_INSTANCES is {config.MAX_GT_INSTANCES}.",
        )
    return look


def _where(dataset: Dataset, image_id: int) -> str:
    return f"image {image_id} ({reference(dataset, image_id)})"


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(int(side)) for side in size)


def _objects(chosen: np.ndarray | list[int]) -> str:
    number = len(chosen) if isinstance(chosen, list) else int(chosen.sum())
    return f"{count_noun(number, 'object')} {'is' if number == 1 else 'are'}"


def _image_size(dataset: Dataset, image_id: int, config: Config) -> tuple[int, int]:
    """(height, width) of an image that can be read and has the config's channels, else a `Fault`."""
    try:
        image = match_channels(to_uint8(dataset.load_image(image_id)), config.IMAGE_CHANNEL_COUNT)
    except Exception as error:  # load_image is the user's own: it raises anything
        raise Fault("image", _sentence(error)) from error
    return image.shape[:2]


@dataclass
class Objects:
    """The objects of an image as they are annotated.

    class_ids: `[N]` int. boxes: `[N, (y1, x1, y2, x2)]` int px, zeros for a mask without a pixel. size: (height, width)
    of the masks. outline: position -> bytes; where they are equal, and the boxes too, the masks are.
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]
    outline: Callable[[int], bytes]


def load_objects(dataset: Dataset, image_id: int, config: Config, size: tuple) -> Objects:
    """The objects of an image, else a `Fault`; from their outlines where the dataset has them, which is faster.

    size: (height, width) of the image, None where they are not known.
    """
    if not config.has_mask_head() and overrides(dataset, "load_bbox"):
        return _objects_of_boxes(dataset, image_id, size)
    if not overrides(dataset, "load_mask"):  # it would warn at each image
        return _objects_of_masks(np.zeros((0, 0, 0), bool), np.zeros(0, int))
    outlined = has_rles(dataset)
    load = dataset.load_rles if outlined else dataset.load_mask
    try:
        masks, class_ids = load(image_id)
        class_ids = np.asarray(class_ids).reshape(-1).astype(int)
        masks = masks if outlined else np.asarray(masks)
    except Exception as error:  # these are the user's own: they raise anything
        raise Fault("masks", _sentence(error)) from error
    return (_objects_of_outlines if outlined else _objects_of_masks)(masks, class_ids)


def _objects_of_outlines(rles: Sequence[dict], class_ids: np.ndarray) -> Objects:
    """From one compressed run-length code of COCO's per object."""
    pixel_boxes = np.zeros((0, 4), int)
    if rles:
        x, y, width, height = coco_mask.toBbox(rles).astype(int).T
        pixel_boxes = np.stack([y, x, y + height, x + width], axis=1)
        pixel_boxes[rle_areas(rles) == 0] = 0  # the box of some codes without a pixel is none
    size = tuple(int(side) for side in rles[0]["size"]) if rles else (0, 0)
    return Objects(class_ids, pixel_boxes, size, lambda i: rles[i]["counts"])


def _objects_of_masks(masks: np.ndarray, class_ids: np.ndarray) -> Objects:
    """From what `load_mask` says, else a `Fault`."""
    if len(class_ids) == 0 and not masks.any():
        masks = np.zeros((0, 0, 0), bool)  # any empty shape will do
    masks = masks[:, :, None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or masks.shape[2] != len(class_ids):
        raise Fault(
            "mask count",
            f"Its masks have the shape {masks.shape}, for {count_noun(len(class_ids), 'class id')}.",
        )
    pixel_boxes = extract_bboxes(masks.astype(bool, copy=False))

    def outline(i):
        y1, x1, y2, x2 = pixel_boxes[i]
        return np.packbits(masks[y1:y2, x1:x2, i] != 0).tobytes()

    return Objects(class_ids, pixel_boxes, masks.shape[:2], outline)


def _objects_of_boxes(dataset: Dataset, image_id: int, size: tuple) -> Objects:
    """From what `load_bbox` says, else a `Fault`; for networks without masks. Equal boxes count as repeated."""
    try:
        found, class_ids = dataset.load_bbox(image_id)
        class_ids = np.asarray(class_ids).reshape(-1).astype(int)
        found = np.asarray(found, float).reshape(-1, 4)
    except Exception as error:  # the user's own: it raises anything
        raise Fault("masks", _sentence(error)) from error
    if len(found) != len(class_ids):
        raise Fault(
            "mask count",
            f"It has {len(found)} boxes, for {count_noun(len(class_ids), 'class id')}.",
        )
    if None in size:  # not known without the pixels: as far as the boxes reach
        size = (
            tuple(int(side) for side in np.ceil(found[:, 2:].max(axis=0))) if len(found) else (0, 0)
        )
    pixel_boxes = np.clip(np.round(found), 0, [*size, *size]).astype(int)
    pixel_boxes[boxes.area(pixel_boxes) <= 0] = 0
    return Objects(class_ids, pixel_boxes, size, lambda i: b"")


def _sentence(error: Exception) -> str:
    return (
        str(error)
        if isinstance(error, ValueError | OSError)
        else f"{type(error).__name__}: {error}"
    )


def _duplicates(truth: Objects) -> list[int]:
    """The instances whose class and mask an earlier one has, too; those without a pixel aside."""
    alike: dict[tuple, list[int]] = {}
    for i, key in enumerate(
        zip(truth.class_ids.tolist(), map(tuple, truth.boxes.tolist()), strict=True)
    ):
        if any(key[1]):
            alike.setdefault(key, []).append(i)
    twins = []
    for group in alike.values():
        seen = set()
        for i in group if len(group) > 1 else ():
            outline = truth.outline(i)
            if outline in seen:
                twins.append(i)
            seen.add(outline)
    return sorted(twins)


class BoxResizer:
    """Where boxes lie after resizing; each size of image is worked out once."""

    def __init__(self, config: Config):
        self.config = config
        self.known: dict[tuple[int, int], tuple] = {}
        low, high, mode = config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_RESIZE_MODE
        self.words = {
            "none": "as they are",
            "square": f"short side up to {low}, long side at most {high} px",
        }.get(mode, f"mode {mode}, short side at least {low} px")

    def resize(self, pixel_boxes: np.ndarray, size: tuple[int, int]):
        """The boxes after resizing, `[N, 4]` float; (height, width) of their image; the boxes of the resized masks.

        In mode "crop" the whole image is meant, for the crop is another one in each epoch.
        """
        if size not in self.known:
            self.known[size] = self._geometry(size)
        shape, (top, left), factors = self.known[size]
        offset = np.array([top, left, top, left])
        scaled = pixel_boxes * factors
        # A mask pixel is taken from the pixel below its centre: rows j with y1 <= (j + 0.5) / factor < y2.
        return scaled + offset, shape, np.ceil(scaled - 0.5).astype(int)

    def _geometry(self, size):
        config = self.config
        rectangle = config.IMAGE_SHAPE if config.IMAGE_RESIZE_MODE in ("square", "crop") else None
        molded, window, scale, _, crop = resize_image(
            np.zeros((*size, 1), np.uint8),
            min_dim=config.IMAGE_MIN_DIM,
            min_scale=config.IMAGE_MIN_SCALE,
            max_dim=config.IMAGE_MAX_DIM,
            mode=config.IMAGE_RESIZE_MODE,
            shape=rectangle,
            rng=np.random.default_rng(
                0
            ),  # of the crop, whose place does not count; the global state stays
        )
        scaled = [round(side * scale) for side in size]
        factors = np.array([new / old for new, old in zip(scaled, size, strict=True)] * 2)
        return (molded.shape[:2] if crop is None else tuple(scaled)), window[:2], factors
