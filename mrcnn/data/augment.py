"""Augmentations in NumPy and OpenCV: callables `(image, masks, rng) -> (image, masks)`.

image: `[H, W, C]` uint8. masks: `[H, W, N]` bool, moved together with the image. rng: a NumPy
Generator, the only source of random numbers. The shape of the image stays the same; the caller
drops instances that leave it.

A callable with the attribute `pastes = True` pastes objects of other images. It is called as
`(image, masks, rng, class_ids, draw_other) -> (image, masks, class_ids)`. class_ids: `[N]` int,
negative for crowds. draw_other: `draw_other(rng)` returns image, masks and class ids of another
image of the same source, resized like this one but of any shape, or None.

A callable with the attribute `moves_points = True` can augment keypoints. It is then called as
`(image, masks, rng, points=points) -> (image, masks, points)`. points: `[P, (y, x)]` float pixels
counted from the corner of the image, as those of boxes; a point may leave the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from .augment_color import Augmented, blur, channel_means, color, hue, noise
from .augment_warp import Moved, move_by_rotation, move_by_scale
from .masks import resize_mask

JITTER = (0.1, 2.0)  # smallest and largest factor of large-scale jitter (Simple Copy-Paste, 3.2)
LEAST_VISIBLE = 0.1  # share of its pixels that an instance must keep, otherwise it is dropped
MAX_AREA_CHANNELS = 4  # of OpenCV's INTER_AREA
Window = tuple[slice, slice]  # rows, columns


# --- Mirror, rotate, zoom ---------------------------------------------------------------------


def flip(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Augmented:
    """Mirror left-right and up-down, each with probability 0.5."""
    return _flip(image, masks, rng)[:2]


def _flip(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Moved:
    image, masks, matrix = _fliplr(image, masks, rng)
    if rng.random() < 0.5:
        image, masks = image[::-1], masks[::-1]
        matrix[0] = [-1, 0, image.shape[0]]  # left-right does not change y
    return Moved(image, masks, matrix)


def fliplr(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Augmented:
    """Mirror left-right with probability 0.5."""
    return _fliplr(image, masks, rng)[:2]


def _fliplr(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Moved:
    matrix = np.eye(2, 3)
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, ::-1]
        matrix[1] = [0, -1, image.shape[1]]
    return Moved(image, masks, matrix)


def rotate90(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Augmented:
    """Rotate square images by 90 degrees with probability 0.5; others are unchanged."""
    return _rotate90(image, masks, rng)[:2]


def _rotate90(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Moved:
    if image.shape[0] != image.shape[1] or rng.random() < 0.5:
        return Moved(image, masks, np.eye(2, 3))
    matrix = np.array([[0.0, -1.0, image.shape[1]], [1.0, 0.0, 0.0]])
    return Moved(np.rot90(image), np.rot90(masks), matrix)


def scale(
    image: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    low: float = 0.7,
    high: float = 1.4,
) -> Augmented:
    """Zoom around a random point by a factor between `low` and `high`; outside becomes black.

    The center of some object stays in the image.
    """
    return move_by_scale(image, masks, rng, low, high)[:2]


def rotate(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, degrees: float = 10.0
) -> Augmented:
    """Rotate around the center by at most `degrees`; outside becomes the mean color."""
    return move_by_rotation(image, masks, rng, degrees)[:2]


# --- Large-scale jitter -----------------------------------------------------------------------


def jitter(
    image: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    low: float = JITTER[0],
    high: float = JITTER[1],
) -> Augmented:
    """Large-scale jitter: scale by a uniformly drawn factor, then crop or pad to the old shape.

    The position is random, too, but shows some object of an image that has any. Padding has the
    mean color of the image; the black border from resizing is removed first. (Simple Copy-Paste,
    Ghiasi et al. 2021, 3.2.)
    """
    jittered = _jitter(image, masks, rng, image.shape[:2], low, high)
    return jittered.image, jittered.masks


class _Jittered(NamedTuple):
    """image: `[H, W, C]`. masks: `[H, W, N]`. pixels: `[N]` float, of whole scaled instances.

    matrix: as that of `Moved`.
    """

    image: np.ndarray
    masks: np.ndarray
    pixels: np.ndarray
    matrix: np.ndarray = np.eye(2, 3)


def _moved_jitter(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, **factors: float
) -> Moved:
    jittered = _jitter(image, masks, rng, image.shape[:2], **factors)
    return Moved(jittered.image, jittered.masks, jittered.matrix)


def _jitter(
    image: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    low: float = JITTER[0],
    high: float = JITTER[1],
) -> _Jittered:
    """`jitter` to any shape `(height, width)`."""
    objects = _any(masks, axis=2)
    content = _content(image, objects)
    image, masks, objects = image[content], masks[content], objects[content]
    factor = rng.uniform(low, high)
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    top, left = _draw_corner(objects, (height, width), shape, factor, rng)
    ratios = np.array([height / image.shape[0], width / image.shape[1]])
    first = np.array([content[0].start or 0, content[1].start or 0])
    matrix = np.column_stack([np.diag(ratios), (top, left) - first * ratios])
    # A corner above or left of the frame crops the image; otherwise the frame is padded.
    y, x, rows, columns = crop = (
        max(0, -top),
        max(0, -left),
        min(shape[0], height),
        min(shape[1], width),
    )
    top, left = max(0, top), max(0, left)
    padding = [(top, shape[0] - rows - top), (left, shape[1] - columns - left), (0, 0)]
    framed = np.empty((*shape, image.shape[2]), np.uint8)
    framed[:] = np.round(channel_means(image))
    resized = _resize(image, height, width)
    framed[top : top + rows, left : left + columns] = resized[y : y + rows, x : x + columns]
    pixels = _pixels(masks) * ratios[0] * ratios[1]
    return _Jittered(framed, resize_mask(masks, factor, padding, crop), pixels, matrix)


def _draw_corner(
    objects: np.ndarray,
    size: tuple[int, int],
    shape: tuple[int, ...],
    factor: float,
    rng: np.random.Generator,
) -> list[int]:
    """Draw the position of the scaled image's top left corner in a frame that shows an object.

    Args:
        objects: `[H, W]` bool pixels of the image before scaling.
        size: of the scaled image.
        shape: of the frame.
        factor: of the scaling.
    """
    free = [shape[0] - size[0], shape[1] - size[1]]  # negative if the frame crops the image
    ranges = [(min(0, length), max(0, length)) for length in free]
    corner = [int(rng.integers(first, last + 1)) for first, last in ranges]
    if not objects.any() or _is_shown(objects, corner, shape, factor):
        return corner
    # Draw again, among the positions that show one pixel of an object.
    pixels = np.argwhere(objects)
    pixel = ((pixels[rng.integers(len(pixels))] + 0.5) * factor).astype(int)
    corner = []
    for axis, (first, last) in enumerate(ranges):
        position = min(int(pixel[axis]), size[axis] - 1)
        lowest, highest = max(first, -position), min(last, shape[axis] - 1 - position)
        corner.append(int(rng.integers(lowest, highest + 1)))
    return corner


def _is_shown(
    objects: np.ndarray, corner: Sequence[int], shape: tuple[int, ...], factor: float
) -> bool:
    """Whether a frame shows a pixel of scaled `[H, W]` objects, their corner at this position."""
    y1, x1 = (int(max(0, -start / factor)) for start in corner)
    ends = (shape[0] - corner[0], shape[1] - corner[1])
    y2, x2 = (int(np.ceil(max(0, end / factor))) for end in ends)
    return bool(objects[y1:y2, x1:x2].any())


def _content(image: np.ndarray, objects: np.ndarray) -> Window:
    """Rows and columns without the black border; pixels of `[H, W]` objects are no border."""
    content = objects.copy()
    for channel in range(image.shape[2]):  # NumPy is slow along an axis as short as this
        content |= image[:, :, channel] != 0
    if not content.any():
        return slice(None), slice(None)
    return _range(_any(content, axis=1)), _range(_any(content, axis=0))


def _any(array: np.ndarray, axis: int) -> np.ndarray:
    """`array.any(axis)` as an array."""
    return np.logical_or.reduce(array, axis=axis)


def _range(line: np.ndarray) -> slice:
    """From the first to the last True of a `[L]` bool array."""
    return slice(int(np.argmax(line)), len(line) - int(np.argmax(line[::-1])))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize to `[height, width, C]`; if it shrinks, each pixel is the mean of those it covers."""
    shrinks = height < image.shape[0] or width < image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    parts = []
    for i in range(0, image.shape[2], MAX_AREA_CHANNELS):
        channels = np.ascontiguousarray(image[:, :, i : i + MAX_AREA_CHANNELS])
        resized = cv2.resize(channels, (width, height), interpolation=interpolation)
        parts.append(resized.reshape(height, width, -1))
    return np.concatenate(parts, axis=2)


# --- Copy-paste -------------------------------------------------------------------------------


def copy_paste(
    image: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    class_ids: np.ndarray,
    draw_other: Callable[[np.random.Generator], Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paste objects of another image, each with probability 0.5, mirrored and jittered.

    Masks below lose the covered pixels. Instances that keep less than LEAST_VISIBLE of their pixels
    are dropped, pasted ones as well. Crowds are not pasted. (Simple Copy-Paste, Ghiasi et al.
    2021, 3.)
    """
    other = draw_other(rng)
    if other is None:
        return image, masks, class_ids
    pasted, pasted_masks, pasted_ids = other
    chosen = (pasted_ids > 0) & (rng.random(len(pasted_ids)) < 0.5)
    if not chosen.any():
        return image, masks, class_ids
    pasted, pasted_masks = fliplr(pasted, pasted_masks[:, :, chosen], rng)
    content = _content(image, _any(masks, axis=2))  # the black border stays black
    jittered = _jitter(pasted, pasted_masks, rng, image[content].shape[:2])
    kept = _enough_visible(jittered.masks, jittered.pixels)
    pasted_ids = pasted_ids[chosen][kept]
    on_top = np.zeros((*masks.shape[:2], len(pasted_ids)), bool)
    on_top[content] = jittered.masks[:, :, kept]

    covered = _any(on_top, axis=2)  # [H, W]
    below = masks & ~covered[:, :, None]
    kept = _enough_visible(below, _pixels(masks))
    # The outermost pixels of an object are blended with the image, so that no edges are visible.
    share = (cv2.blur(covered.astype(np.float32), (3, 3)) * covered)[content][:, :, None]
    image = image.copy()
    image[content] = np.round(image[content] * (1 - share) + jittered.image * share)
    masks = np.concatenate([below[:, :, kept], on_top], axis=2)
    return image, masks, np.concatenate([class_ids[kept], pasted_ids])


copy_paste.pastes = True


def _enough_visible(masks: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """`[N]` bool: the masks that have a pixel, and LEAST_VISIBLE of the `[N]` pixels they had."""
    return _pixels(masks) >= np.maximum(1, LEAST_VISIBLE * pixels)


def _pixels(masks: np.ndarray) -> np.ndarray:
    """`[N]` int: the number of pixels of each mask."""
    columns = masks.view(np.uint8).sum(axis=0, dtype=np.uint32)  # [W, N]
    return columns.sum(axis=0)  # a third of the time of one sum over both axes


# --- By name ----------------------------------------------------------------------------------

AUGMENTATIONS = {
    "flip": flip,
    "fliplr": fliplr,
    "rotate90": rotate90,
    "rotate": rotate,
    "scale": scale,
    "jitter": jitter,
    "color": color,
    "hue": hue,
    "blur": blur,
    "noise": noise,
    "copy_paste": copy_paste,
}


# Those that move points, as functions that return `Moved`; the others change colors only.
_MOVES: dict[str, Callable[..., Moved]] = {
    "flip": _flip,
    "fliplr": _fliplr,
    "rotate90": _rotate90,
    "rotate": move_by_rotation,
    "scale": move_by_scale,
    "jitter": _moved_jitter,
}


class Step(NamedTuple):
    """A key of `AUGMENTATIONS`, and the options of its function that are not the defaults."""

    name: str
    options: Mapping[str, float] = {}


# Colors come first, so that what `scale` adds around the image stays black. Mirrors and turns come
# last: they are views of the arrays, which others would have to copy.
PRESETS: dict[str, tuple[Step, ...]] = {
    "none": (),
    # Everyday scenes: up stays up.
    "standard": (
        Step("color", {"strength": 0.2}),
        Step("hue"),
        Step("scale"),
        Step("fliplr"),
    ),
    # Long trainings of scenes. Jitter must see the black border of resizing, to remove it.
    "strong": (
        Step("jitter", {"low": 0.3}),
        Step("rotate"),
        Step("color", {"strength": 0.4}),
        Step("hue", {"degrees": 20.0, "saturation": 0.6}),
        Step("blur"),
        Step("fliplr"),
    ),
    # No direction is special; focus, stain and exposure vary.
    "microscopy": (
        Step("color"),
        Step("hue"),
        Step("blur"),
        Step("noise"),
        Step("scale"),
        Step("flip"),
        Step("rotate90"),
    ),
    # No direction is special; height of the flight, light and haze vary.
    "aerial": (
        Step("color"),
        Step("hue", {"degrees": 12.0, "saturation": 0.4}),
        Step("scale", {"low": 0.5, "high": 1.6}),
        Step("flip"),
        Step("rotate90"),
    ),
}


class Compose:
    """Apply named augmentations in their order.

    If an image with objects would lose all of them, it stays as it is.

    steps: the presets among the names are replaced by their steps.
    pastes: whether one of them pastes objects. moves_points: whether it can augment keypoints.
    """

    def __init__(self, names: Sequence[str]):
        """names: keys of `AUGMENTATIONS` and `PRESETS`."""
        self.names = tuple(names)
        self.steps: list[Step] = []
        for name in self.names:
            self.steps += PRESETS.get(name, (Step(name),))
        self.pastes = any(step.name == "copy_paste" for step in self.steps)
        self.moves_points = not self.pastes

    def __call__(
        self,
        image: np.ndarray,
        masks: np.ndarray,
        rng: np.random.Generator,
        class_ids: np.ndarray | None = None,
        draw_other: Callable[[np.random.Generator], Any] | None = None,
        points: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        """Return image and masks, and class ids if it pastes, or points if they are given."""
        unchanged = (image, masks, class_ids)
        matrix = np.eye(2, 3)
        for name, options in self.steps:
            function: Callable[..., Any] = AUGMENTATIONS[name]
            if name == "copy_paste":
                image, masks, class_ids = function(image, masks, rng, class_ids, draw_other)
            elif name in _MOVES:
                image, masks, moved = _MOVES[name](image, masks, rng, **options)
                matrix = _after(moved, matrix)
            else:
                image = _recolor(function, options, image, rng)
        if not _has_pixel(masks) and _has_pixel(unchanged[1]):
            image, masks, class_ids = unchanged
            matrix = np.eye(2, 3)
        image = np.ascontiguousarray(image)
        if points is not None:
            return image, masks, points @ matrix[:, :2].T + matrix[:, 2]
        if class_ids is not None and self.pastes:
            return image, masks, class_ids
        return image, masks


def _recolor(
    function: Callable[..., Augmented],
    options: Mapping[str, float],
    image: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Change the pixels of an image; the black border from resizing stays black."""
    no_masks = np.zeros((*image.shape[:2], 0), bool)
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    if all(edge.any() for edge in edges):
        return function(image, no_masks, rng, **options)[0]
    window = _content(image, np.zeros(image.shape[:2], bool))
    changed = np.zeros_like(image)
    changed[window] = function(image[window], no_masks, rng, **options)[0]
    return changed


def _has_pixel(masks: np.ndarray) -> bool:
    """Whether one of the masks `[H, W, N]` has a pixel."""
    # Plane by plane: the first object usually answers.
    return any(plane.any() for plane in np.moveaxis(masks, -1, 0))


def _after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The `[2, 3]` matrix of points that does what two such matrices do, one after the other."""
    turn = second[:, :2]
    return np.column_stack([turn @ first[:, :2], turn @ first[:, 2] + second[:, 2]])


def compose(names: Sequence[str]) -> Compose:
    """Return one callable that applies the named augmentations and presets in this order.

    Raises: ValueError for an unknown name.
    """
    for name in names:
        if name not in AUGMENTATIONS and name not in PRESETS:
            raise ValueError(
                f"An augmentation must be one of {', '.join(AUGMENTATIONS)}, or a preset: "
                f"{', '.join(PRESETS)}. Received: {name!r}."
            )
    return Compose(names)
