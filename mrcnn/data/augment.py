"""Augmentation made on NumPy and OpenCV: callables `(image, masks, rng) -> (image, masks)`.

image: `[H, W, C]` uint8. masks: `[H, W, N]` bool, moved together with it. rng: a numpy Generator, the only source
of chance. The shape of the image stays; instances that leave it are dropped by the caller.

A callable with the attribute `pastes = True` brings objects of other images. It is called
`(image, masks, rng, class_ids, another) -> (image, masks, class_ids)`: class_ids: `[N]` int, negative for crowds;
another: `another(rng)` gives image, masks and class ids of another image of the same source, as large as it is after
resizing, of any shape; None where there is none.
"""

from __future__ import annotations

import cv2
import numpy as np

from .masks import resize_mask

JITTER = (0.1, 2.0)  # smallest and largest factor of large-scale jitter (Simple Copy-Paste, 3.2)
LEAST_VISIBLE = 0.1  # share of its pixels that an instance keeps, or it is dropped


def flip(image, masks, rng):
    """A left-right and an up-down mirror, each half of the time."""
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, ::-1]
    if rng.random() < 0.5:
        image, masks = image[::-1], masks[::-1]
    return image, masks


def fliplr(image, masks, rng):
    """A left-right mirror half of the time."""
    return (image[:, ::-1], masks[:, ::-1]) if rng.random() < 0.5 else (image, masks)


def rotate90(image, masks, rng):
    """A quarter turn half of the time, on square images; others stay."""
    if image.shape[0] != image.shape[1] or rng.random() < 0.5:
        return image, masks
    return np.rot90(image), np.rot90(masks)


def scale(image, masks, rng, low=0.7, high=1.4):
    """Zoomed around a random point by a factor between `low` and `high`; what lies outside becomes black."""
    factor = np.exp(rng.uniform(np.log(low), np.log(high)))
    height, width = image.shape[:2]
    y, x = rng.uniform(0, 1, 2) * (height, width)
    matrix = np.array([[factor, 0, x * (1 - factor)], [0, factor, y * (1 - factor)]])
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR).reshape(
        image.shape
    )
    moved = np.zeros((masks.shape[-1], height, width), np.uint8)
    for i in range(masks.shape[-1]):
        layer = np.ascontiguousarray(masks[:, :, i]).view(np.uint8)
        cv2.warpAffine(layer, matrix, (width, height), dst=moved[i], flags=cv2.INTER_NEAREST)
    return warped, np.moveaxis(moved.view(bool), 0, -1)


def jitter(image, masks, rng, low=JITTER[0], high=JITTER[1]):
    """Large-scale jitter: scaled by a factor drawn evenly from `low` to `high`, then cropped or padded to its shape.

    The place is drawn too, so that some object of an image that has any is in view. What is padded has the photo's
    mean colour; the black rim that resizing left is cut off first. (Simple Copy-Paste, Ghiasi et al. 2021, 3.2.)
    """
    image, masks, _ = _jittered(image, masks, rng, image.shape[:2], low, high)
    return image, masks


def _jittered(image, masks, rng, shape, low=JITTER[0], high=JITTER[1]):
    """`jitter` to any shape `(height, width)`; also gives `[N]` float, the pixels of the whole scaled instances."""
    objects = masks.any(axis=2)
    photo = _photo(image, objects)
    image, masks, objects = image[photo], masks[photo], objects[photo]
    factor = rng.uniform(low, high)
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    # Where its top left corner comes to lie: above or left of the frame, and the frame crops; else it pads.
    rooms = [(min(0, room), max(0, room)) for room in (shape[0] - height, shape[1] - width)]
    corner = [int(rng.integers(first, last + 1)) for first, last in rooms]
    if objects.any() and not _seen(objects, corner, shape, factor):
        pixels = np.argwhere(objects)
        pixel = ((pixels[rng.integers(len(pixels))] + 0.5) * factor).astype(int)
        corner = [  # anew, among the places that show this pixel
            int(rng.integers(max(first, -i), min(last, side - 1 - i) + 1))
            for (first, last), i, side in zip(
                rooms, np.minimum(pixel, (height - 1, width - 1)), shape, strict=True
            )
        ]
    top, left = corner
    y, x, rows, columns = crop = (
        max(0, -top),
        max(0, -left),
        min(shape[0], height),
        min(shape[1], width),
    )
    padding = [
        (max(0, top), shape[0] - rows - max(0, top)),
        (max(0, left), shape[1] - columns - max(0, left)),
        (0, 0),
    ]
    framed = np.empty((*shape, image.shape[2]), np.uint8)
    framed[:] = np.round(image.mean(axis=(0, 1)))
    seen = framed[max(0, top) :, max(0, left) :][:rows, :columns]
    seen[:] = _resized(image, height, width)[y : y + rows, x : x + columns]
    whole = _pixels(masks) * (height / image.shape[0]) * (width / image.shape[1])
    return framed, resize_mask(masks, factor, padding, crop), whole


def _photo(image, objects):
    """The rows and columns, two slices, without the black ones around them in which `[H, W]` objects have no pixel."""
    content = image.any(axis=2) | objects
    if not content.any():
        return slice(None), slice(None)
    lines = content.any(axis=1), content.any(axis=0)
    return tuple(slice(np.argmax(line), len(line) - np.argmax(line[::-1])) for line in lines)


def _resized(image, height, width):
    """`[height, width, C]`; when it shrinks, each pixel is the mean of those it covers."""
    shrinks = height < image.shape[0] or width < image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    fours = (
        np.ascontiguousarray(image[:, :, i : i + 4]) for i in range(0, image.shape[2], 4)
    )  # INTER_AREA's limit
    return np.concatenate(
        [
            cv2.resize(four, (width, height), interpolation=how).reshape(height, width, -1)
            for four in fours
        ],
        axis=2,
    )


def _seen(objects, corner, shape, factor):
    """Whether a frame `(height, width)` shows a pixel of `[H, W]` objects, scaled, with this corner in the frame."""
    (y1, x1), (y2, x2) = (
        [max(0, (side - start) / factor) for start, side in zip(corner, end, strict=True)]
        for end in ((0, 0), shape)
    )
    return bool(objects[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))].any())


def color(image, masks, rng, strength=0.3):
    """Brightness, contrast and each channel's gain changed a little."""
    gain = (
        1
        + rng.uniform(-strength, strength)
        + rng.uniform(-strength / 3, strength / 3, image.shape[2])
    )
    shift = 255 * rng.uniform(-strength, strength) / 3
    mean = image.mean(axis=(0, 1))
    return np.clip((image - mean) * gain + mean + shift, 0, 255).astype(np.uint8), masks


def copy_paste(image, masks, rng, class_ids, another):
    """Objects of another image on top, each of them half of the time, mirrored and jittered on their own.

    Masks below lose what is covered; instances of which less than LEAST_VISIBLE is left are dropped, and so are
    pasted ones of which the frame shows less. Crowds are not pasted. (Simple Copy-Paste, Ghiasi et al. 2021, 3.)
    """
    other = another(rng)
    if other is None:
        return image, masks, class_ids
    pasted, pasted_masks, pasted_ids = other
    chosen = (pasted_ids > 0) & (rng.random(len(pasted_ids)) < 0.5)
    if not chosen.any():
        return image, masks, class_ids
    pasted, pasted_masks = fliplr(pasted, pasted_masks[:, :, chosen], rng)
    photo = _photo(image, masks.any(axis=2))  # nothing is pasted on the rim
    pasted, pasted_masks, whole = _jittered(pasted, pasted_masks, rng, image[photo].shape[:2])
    kept = _enough_left(pasted_masks, whole)
    pasted_ids = pasted_ids[chosen][kept]
    on_top = np.zeros((*masks.shape[:2], len(pasted_ids)), bool)
    on_top[photo] = pasted_masks[:, :, kept]

    covered = on_top.any(axis=2)
    below = masks & ~covered[:, :, None]
    kept = _enough_left(below, _pixels(masks))
    # The outermost pixels of an object mix with what is below: its border shows no steps.
    share = (cv2.blur(covered.astype(np.float32), (3, 3)) * covered)[photo][:, :, None]
    image = image.copy()
    image[photo] = np.round(image[photo] * (1 - share) + pasted * share)
    masks = np.concatenate([below[:, :, kept], on_top], axis=2)
    return image, masks, np.concatenate([class_ids[kept], pasted_ids])


copy_paste.pastes = True


def _enough_left(masks, whole):
    """`[N]` bool: which masks have a pixel, and LEAST_VISIBLE of the `[N]` pixels they had."""
    return _pixels(masks) >= np.maximum(1, LEAST_VISIBLE * whole)


def _pixels(masks):
    """`[N]` int: the pixels of each mask."""
    return (
        masks.view(np.uint8).sum(axis=0, dtype=np.uint32).sum(axis=0)
    )  # a third of the time of one sum over both


AUGMENTATIONS = {
    "flip": flip,
    "fliplr": fliplr,
    "rotate90": rotate90,
    "scale": scale,
    "jitter": jitter,
    "color": color,
    "copy_paste": copy_paste,
}


def compose(names):
    """One callable that applies the named augmentations in this order; it `pastes` where one of them does.

    Raises: ValueError for an unknown name.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(
                f"An augmentation must be one of {', '.join(AUGMENTATIONS)}. Received: {name!r}."
            )

    def augment(image, masks, rng, class_ids=None, another=None):
        for name in names:
            if name == "copy_paste":
                image, masks, class_ids = copy_paste(image, masks, rng, class_ids, another)
            else:
                image, masks = AUGMENTATIONS[name](image, masks, rng)
        image = np.ascontiguousarray(image)
        return (image, masks, class_ids) if augment.pastes else (image, masks)

    augment.pastes = "copy_paste" in names
    return augment
