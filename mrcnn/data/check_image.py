"""The faults of one image: unreadable or mismatching files, objects that resizing loses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..config import PAD32_MODES, Config
from ..nn import boxes
from .check_report import MIN_SIDE, Finding, count_noun
from .dataset import Dataset, has_rles, overrides, reference
from .image import match_channels, resize_to_config, scaled_size, to_uint8
from .keypoints import without_outside
from .masks import extract_bboxes, nearest_by_center, nearest_by_corner, rle_boxes

Size = tuple[int | None, int | None]  # height, width; None if unknown


class Fault(Exception):
    """An image that cannot be checked any further."""

    def __init__(self, kind: str, sentence: str):
        """kind, sentence: see `Finding`."""
        super().__init__(kind, sentence)
        self.kind, self.sentence = kind, sentence


@dataclass
class ImageCheck:
    """The findings and the objects of one image.

    class_ids: `[N]`, negative for crowds. boxes: `[N, (y1, x1, y2, x2)]` float, px after resizing.
    Both without instances that have no pixel or an unknown class. shape: (height, width) after
    resizing. read: whether its masks could be read.
    """

    image_id: int
    where: str
    findings: list[Finding] = field(default_factory=list)
    class_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    shape: tuple[int, int] = (0, 0)
    read: bool = False

    @property
    def objects(self) -> int:
        """Number of objects that are not crowds."""
        return int(np.sum(self.class_ids > 0))

    def find(self, kind: str, sentence: str, instances: Any = ()) -> None:
        """Add a finding. instances: positions of its objects."""
        positions = tuple(int(i) for i in instances)
        self.findings.append(Finding(kind, sentence, self.image_id, self.where, positions))


def check_image(
    dataset: Dataset, image_id: int, config: Config, resizer: BoxResizer, pixels: bool
) -> ImageCheck:
    """Check one image. pixels: read the image itself, too."""
    result = ImageCheck(image_id, f"image {image_id} ({reference(dataset, image_id)})")
    info = dataset.image_info[image_id]
    size: Size = (info.get("height"), info.get("width"))
    unreadable = None
    if pixels:
        try:
            size = _image_size(dataset, image_id, config)
        except Fault as fault:
            result.find(fault.kind, fault.sentence)
            unreadable = fault.sentence
    try:
        objects = load_objects(dataset, image_id, config, size)
        _check_size(objects, size)
    except Fault as fault:
        # Readers that take the size of the masks from the image file fail with the same sentence.
        if fault.sentence != unreadable:
            result.find(fault.kind, fault.sentence)
        return result
    result.read = True
    if config.has_keypoint_head():
        _check_keypoints(result, dataset, len(objects.class_ids), config, size)
    kept = _check_objects(result, objects, dataset.num_classes)
    if kept.any():
        _check_resized(result, objects, kept, config, resizer)
    return result


def _check_size(objects: Objects, size: Size) -> None:
    """Raise a Fault if masks have another size than their image."""
    if len(objects.class_ids) and None not in size and objects.size != tuple(size):
        masks, image = _times(objects.size), _times(size)
        sentence = f"Its masks are {masks} and it is {image} px (height x width)."
        raise Fault("mask size", sentence)


def _check_keypoints(
    result: ImageCheck, dataset: Dataset, count: int, config: Config, size: Size
) -> None:
    """Find keypoints of the wrong number, and labelled ones outside the image."""
    try:
        keypoints = np.asarray(dataset.load_keypoints(result.image_id), float)
    except Exception as error:  # load_keypoints may be the user's code
        result.find("keypoints", _sentence(error))
        return
    if keypoints.size == 0 and count == 0:
        return
    shape = (count, config.NUM_KEYPOINTS, 3)
    if keypoints.shape != shape or not np.isfinite(keypoints).all():
        sentence = f"Its keypoints must be finite numbers {shape}, and are {keypoints.shape}."
        result.find("keypoints", sentence)
        return
    height, width = size
    if height is None or width is None:
        return
    labelled = keypoints[..., 2] > 0
    outside = labelled & (without_outside(keypoints, (height, width))[..., 2] == 0)
    if outside.any():
        instances = outside.any(axis=1).nonzero()[0]
        sentence = f"{count_noun(int(outside.sum()), 'keypoint')} will not be learned."
        result.find("keypoints outside", sentence, instances)


def _check_objects(result: ImageCheck, objects: Objects, num_classes: int) -> np.ndarray:
    """Find objects of unknown classes, without pixels, and duplicates.

    Returns: `[N]` bool, the objects of known classes that have a pixel.
    """
    class_ids = objects.class_ids
    empty = boxes.area(objects.boxes) == 0
    unknown = ~empty & ((np.abs(class_ids) < 1) | (np.abs(class_ids) >= num_classes))
    if unknown.any():
        ids = sorted(set(class_ids[unknown].tolist()))
        sentence = f"Its class ids must be 1 to {num_classes - 1}, and some are {ids}."
        result.find("class id", sentence, unknown.nonzero()[0])
    # Scripts mark an image without objects by an empty mask of class 0.
    without_pixel = (empty & (class_ids != 0)).nonzero()[0]
    if len(without_pixel):
        result.find("empty", f"{_are(without_pixel)} without a pixel.", without_pixel)
    duplicates = _duplicates(objects)
    if duplicates:
        result.find("duplicate", f"{_are(duplicates)} repeated.", duplicates)
    return ~empty & ~unknown


def _check_resized(
    result: ImageCheck,
    objects: Objects,
    kept: np.ndarray,
    config: Config,
    resizer: BoxResizer,
) -> None:
    """Find objects that become too small by resizing, and too many objects; set boxes and shape."""
    result.class_ids = objects.class_ids[kept]
    resized = resizer.resize(objects.boxes[kept], objects.size)
    result.boxes, result.shape = resized.boxes, resized.shape
    positions = kept.nonzero()[0]
    is_object = result.class_ids > 0  # boxes of crowds are not learned
    vanishing = is_object & (boxes.area(resized.mask_boxes) == 0)
    if vanishing.any():
        instances = positions[vanishing]
        result.find("vanishing", f"{_are(instances)} lost between pixels.", instances)
    sides = (result.boxes[:, 2:] - result.boxes[:, :2]).min(axis=1)
    tiny = is_object & (sides < MIN_SIDE) & ~vanishing
    if tiny.any():
        instances = positions[tiny]
        result.find("tiny", f"{_are(instances)} down to {sides[tiny].min():.1f} px.", instances)
    count = len(result.class_ids)
    if count > config.MAX_GT_INSTANCES:
        sentence = f"It has {count} instances, and MAX_GT_INSTANCES is {config.MAX_GT_INSTANCES}."
        result.find("crowded", sentence)


def _times(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _are(instances: Sequence[int] | np.ndarray) -> str:
    """For example "1 object is" or "3 objects are"."""
    verb = "is" if len(instances) == 1 else "are"
    return f"{count_noun(len(instances), 'object')} {verb}"


def _sentence(error: Exception) -> str:
    """The message of an error, with its type unless that is known to users."""
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _image_size(dataset: Dataset, image_id: int, config: Config) -> tuple[int, int]:
    """Height and width of an image. Raises: Fault if it cannot be read or has other channels."""
    try:
        image = match_channels(to_uint8(dataset.load_image(image_id)), config.IMAGE_CHANNEL_COUNT)
    except Exception as error:  # load_image may be the user's code
        raise Fault("image", _sentence(error)) from error
    return image.shape[0], image.shape[1]


# --- Objects as they are annotated ------------------------------------------------------------


@dataclass
class Objects:
    """The objects of an image as they are annotated.

    class_ids: `[N]` int. boxes: `[N, (y1, x1, y2, x2)]` int px, zeros for a mask without a pixel.
    size: (height, width) of the masks. shape_of: position -> bytes; two masks are equal if their
    boxes and these bytes are.
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]
    shape_of: Callable[[int], bytes]


def load_objects(dataset: Dataset, image_id: int, config: Config, size: Size) -> Objects:
    """Load the objects of an image, from run-length codes if the dataset has them (faster).

    size: (height, width) of the image.

    Raises: Fault if they cannot be read.
    """
    if not config.has_mask_head() and overrides(dataset, "load_bbox"):
        return _objects_of_boxes(dataset, image_id, size)
    if not overrides(dataset, "load_mask"):  # the default logs a warning for each image
        return _objects_of_masks(np.zeros((0, 0, 0), bool), np.zeros(0, int))
    load: Any = dataset.load_mask
    if has_rles(dataset):
        load = dataset.load_rles  # pyright: ignore[reportAttributeAccessIssue]
    try:
        masks, class_ids = load(image_id)
        class_ids = np.asarray(class_ids).reshape(-1).astype(int)
        if has_rles(dataset):
            return _objects_of_rles(masks, class_ids)
        masks = np.asarray(masks)
    except Exception as error:  # load_mask may be the user's code
        raise Fault("masks", _sentence(error)) from error
    return _objects_of_masks(masks, class_ids)


def _objects_of_rles(rles: list[dict], class_ids: np.ndarray) -> Objects:
    """Objects of compressed run-length codes, one for each."""
    height, width = rles[0]["size"] if rles else (0, 0)
    size = (int(height), int(width))
    return Objects(class_ids, rle_boxes(rles), size, lambda i: rles[i]["counts"])


def _objects_of_masks(masks: np.ndarray, class_ids: np.ndarray) -> Objects:
    """Objects of masks as `load_mask` returns them. Raises: Fault if the numbers differ."""
    if len(class_ids) == 0 and not masks.any():
        masks = np.zeros((0, 0, 0), bool)  # load_mask may return any empty shape
    if masks.ndim == 2:
        masks = masks[:, :, None]
    if masks.ndim != 3 or masks.shape[2] != len(class_ids):
        raise Fault(
            "mask count",
            f"Its masks have the shape {masks.shape}, for "
            f"{count_noun(len(class_ids), 'class id')}.",
        )
    mask_boxes = extract_bboxes(masks.astype(bool, copy=False))

    def shape_of(i: int) -> bytes:
        y1, x1, y2, x2 = mask_boxes[i]
        return np.packbits(masks[y1:y2, x1:x2, i] != 0).tobytes()

    return Objects(class_ids, mask_boxes, (masks.shape[0], masks.shape[1]), shape_of)


def _objects_of_boxes(dataset: Dataset, image_id: int, size: Size) -> Objects:
    """Objects of `load_bbox`, for networks without masks. Raises: Fault if they cannot be read."""
    try:
        found, class_ids = dataset.load_bbox(image_id)
        class_ids = np.asarray(class_ids).reshape(-1).astype(int)
        found = np.asarray(found, float).reshape(-1, 4)
    except Exception as error:  # load_bbox may be the user's code
        raise Fault("masks", _sentence(error)) from error
    if len(found) != len(class_ids):
        sentence = f"It has {len(found)} boxes, for {count_noun(len(class_ids), 'class id')}."
        raise Fault("mask count", sentence)
    height, width = size
    if height is None or width is None:  # unknown without the pixels: as far as the boxes reach
        reach = np.ceil(found[:, 2:].max(axis=0, initial=0))
        height, width = int(reach[0]), int(reach[1])
    pixel_boxes = np.clip(np.round(found), 0, [height, width, height, width]).astype(int)
    pixel_boxes[boxes.area(pixel_boxes) <= 0] = 0
    return Objects(class_ids, pixel_boxes, (height, width), lambda i: b"")


def _duplicates(objects: Objects) -> list[int]:
    """Positions of the objects whose class and mask an earlier object has, too."""
    groups: dict[tuple, list[int]] = {}
    for i, (class_id, box) in enumerate(
        zip(objects.class_ids.tolist(), objects.boxes.tolist(), strict=True)
    ):
        if any(box):  # empty masks are not compared
            groups.setdefault((class_id, *box), []).append(i)
    duplicates = []
    for group in groups.values():
        if len(group) == 1:
            continue
        seen = set()
        for i in group:
            shape = objects.shape_of(i)
            if shape in seen:
                duplicates.append(i)
            seen.add(shape)
    return sorted(duplicates)


# --- Resizing ---------------------------------------------------------------------------------


class ResizedBoxes(NamedTuple):
    """Boxes after resizing.

    boxes: `[N, 4]` float. shape: (height, width) of their image. mask_boxes: `[N, 4]` int, the
    boxes of the resized masks, which are whole pixels.
    """

    boxes: np.ndarray
    shape: tuple[int, int]
    mask_boxes: np.ndarray


class _Geometry(NamedTuple):
    """How images of one size are resized. offset, factors: `[4]` of y1, x1, y2, x2."""

    shape: tuple[int, int]
    offset: np.ndarray
    factors: np.ndarray


class BoxResizer:
    """Positions of boxes after resizing; each size of image is computed once.

    words: how the config resizes.
    """

    def __init__(self, config: Config):
        self.config = config
        self._known: dict[tuple[int, int], _Geometry] = {}
        low, high, mode = config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_RESIZE_MODE
        if mode == "none":
            self.words = "as they are"
        elif mode == "square":
            self.words = f"short side up to {low}, long side at most {high} px"
        elif mode in PAD32_MODES:
            self.words = f"short side to {low}, long side at most {high} px"
        else:
            self.words = f"mode {mode}, short side at least {low} px"

    def resize(self, pixel_boxes: np.ndarray, size: tuple[int, int]) -> ResizedBoxes:
        """Resize boxes of an image of this (height, width).

        In mode "crop" the image is not cropped, because the crop differs in each epoch.
        """
        if size not in self._known:
            self._known[size] = self._geometry(size)
        geometry = self._known[size]
        scaled = pixel_boxes * geometry.factors
        by_corner = self.config.IMAGE_RESIZE_MODE == "torchvision"
        nearest = nearest_by_corner if by_corner else nearest_by_center
        mask_boxes = _boxes_of_masks(pixel_boxes, size, geometry, nearest)
        return ResizedBoxes(scaled + geometry.offset, geometry.shape, mask_boxes)

    def _geometry(self, size: tuple[int, int]) -> _Geometry:
        # The position of a crop does not matter; the generator keeps the global state unchanged.
        rng = np.random.default_rng(0)
        blank = np.zeros((*size, np.size(self.config.MEAN_PIXEL)), np.uint8)
        resized = resize_to_config(blank, self.config, rng)
        height, width = shape = scaled_size(*size, resized.scale)
        if resized.crop is None:
            shape = (resized.image.shape[0], resized.image.shape[1])
        factors = np.array([height / size[0], width / size[1]] * 2)
        return _Geometry(shape, np.array(resized.window[:2] * 2), factors)


def _boxes_of_masks(
    pixel_boxes: np.ndarray,
    size: tuple[int, int],
    geometry: _Geometry,
    nearest: Callable[[int, int], np.ndarray],
) -> np.ndarray:
    """The boxes `[N, 4]` of resized masks.

    size: (height, width) of the image. nearest: the old pixel of each new one, along an axis.
    """
    found = np.zeros(pixel_boxes.shape, int)
    for axis in (0, 1):
        new_side = round(size[axis] * geometry.factors[axis])
        sources = nearest(size[axis], new_side)
        # The first position whose source is in the box, and the first whose source is past it.
        found[:, axis::2] = np.searchsorted(sources, pixel_boxes[:, axis::2])
    return found
