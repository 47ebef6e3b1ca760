"""Masks as image files: one per object, or one per image whose values number the objects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ..files.atomic import atomic_write
from ..files.image_files import read_pixels
from ..files.limits import check_masks
from ..nn.boxes import outward
from .reading import SETS, ImageFiles, SkippedEntries, image_files, listing, read_indices
from .rle import mask_plane
from .values import short
from .writing import LabelFolder, Result, Writer

logger = logging.getLogger("mrcnn")

CACHE_BYTES = 2**28  # of masks read from files, kept with one bit per pixel
IMAGE_FOLDERS = ("images", "imgs", "PNGImages")
MASK_FOLDERS = ("masks", "labels", "PedMasks")
MAX_INSTANCES = 10_000  # in an image of instance ids; a photograph or soft edges have more values
# Edges are soft if more than this share of edge pixels have a value of their own.
SOFT_EDGES = 0.15
NOISE = 32  # grey levels by which JPEG changes black and white, except along an edge


# --- One mask file per object ---------------------------------------------------------------------


class _PackedMasks(NamedTuple):
    """Masks with one bit per pixel."""

    bits: np.ndarray
    shape: tuple[int, ...]  # N, H, W

    def unpack(self) -> np.ndarray:
        """Return the masks, bool `[N, H, W]`."""
        count = int(np.prod(self.shape))
        return np.unpackbits(self.bits, count=count).reshape(self.shape).view(bool)


class MaskFolderDataset(ImageFiles):
    """A folder per image, a mask file per object: `<id>/images/*.png` and `<id>/masks/*.png`.

    The layout of the 2018 Data Science Bowl (nuclei), with one class. A mask file is nonzero inside
    of the object; one with several values has soft edges, or was saved as JPEG, and is thresholded
    at half its highest value, with a warning. An image without a `masks` folder counts as an image
    without objects, and a warning counts these.
    """

    _warned_of_soft_edges = False

    def __init__(self, folder: str | Path, class_name: str = "object", strict: bool = False):
        """Create a prepared dataset.

        folder: contains one sub-folder per image. class_name: of every object. strict: raise a
        ValueError at the first sub-folder that cannot be used, instead of skipping it.
        """
        super().__init__()
        # A hundred mask files per image are slow to read in every epoch.
        self._cache: dict[str, _PackedMasks] = {}  # folder of masks -> masks
        self._cached_bytes = 0
        folder = Path(folder)
        self.add_class("masks", 1, class_name)
        skipped = SkippedEntries(folder, strict)
        entries = _image_folders(folder)
        bare = 0
        for entry in entries:
            try:
                path = _only_image(entry)
            except ValueError as error:
                skipped.add(error)
                continue
            if not (entry / "masks").is_dir():
                bare += 1
            self.add_image("masks", image_id=entry.name, path=path, masks=str(entry / "masks"))
        if not self.image_info:
            raise ValueError(skipped.reasons[0] if skipped.reasons else _no_image_folders(folder))
        skipped.warn(len(entries), "folders")
        self.left_out = skipped.reasons
        if bare:
            logger.warning(
                "%d of %d images in %s have no masks folder: taken as images without objects.",
                bare,
                len(self.image_info),
                folder,
            )
        self.prepare()

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one mask per file, sorted by name: bool `[H, W, N]`; class ids, int32 `[N]`."""
        folder = self.image_info[image_id]["masks"]
        if folder in self._cache:
            masks = self._cache[folder].unpack()
        else:
            masks = self._read_masks(image_id)
            if self._cached_bytes < CACHE_BYTES:
                self._cache[folder] = _PackedMasks(np.packbits(masks), masks.shape)
                self._cached_bytes += masks.size // 8
        return np.moveaxis(masks, 0, -1), np.ones(len(masks), np.int32)

    def _read_masks(self, image_id: int) -> np.ndarray:
        """Return the masks of an image from its files, bool `[N, H, W]`."""
        info = self.image_info[image_id]
        files = image_files(Path(info["masks"]))
        size = self.image_size(image_id)
        check_masks(len(files), *size, info["masks"])
        masks = np.zeros((len(files), *size), bool)
        for i, file in enumerate(files):
            masks[i], has_soft_edges = _read_mask(file, size, info["path"])
            if has_soft_edges and not self._warned_of_soft_edges:
                self._warned_of_soft_edges = True
                logger.warning(
                    "%s has soft edges, or went through JPEG: its object is where it has at least "
                    "half its highest value. (Only the first such file is reported.)",
                    file,
                )
        return masks


def is_mask_folder(path: Path) -> bool:
    """Return whether a folder contains <id>/images folders, other than train, val and test."""
    return any(folder.name not in SETS for folder in _image_folders(path))


def _image_folders(folder: Path) -> list[Path]:
    """Return the sub-folders that contain a folder `images`, sorted."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if (entry / "images").is_dir()]


def _only_image(entry: Path) -> str:
    """Return the path of the image in `<id>/images`."""
    images = image_files(entry / "images")
    if len(images) != 1:
        raise ValueError(
            f"{entry / 'images'} must contain exactly one image, and {entry / 'masks'} a file per "
            f"object. Received: {short([path.name for path in images], 200)}. "
            "Try a folder for each image, or the name of the data set itself."
        )
    return str(images[0])


def _no_image_folders(folder: Path) -> str:
    return (
        f"{folder} must contain folders of the form <id>/images/*.png and <id>/masks/*.png. "
        f"Received: {listing(folder)}. Try the folder above or below it."
    )


def _read_mask(file: Path, size: tuple[int, int], image: str) -> tuple[np.ndarray, bool]:
    """Return the mask in a file, bool `[H, W]`, and whether it had soft edges.

    The object is where any color channel is nonzero; alpha is not a color.

    size: (height, width) that the file must have, that of the file `image`.
    """
    pixels = read_pixels(file, "A mask file", size=size, image=image)
    if pixels.ndim == 3:
        channels = pixels.shape[2]
        colors = channels - 1 if channels in (2, 4) else channels
        pixels = pixels[:, :, :colors].max(axis=2)
    highest = pixels.max(initial=0)
    inside = pixels > 0
    if np.all(pixels[inside] == highest):
        return inside, False
    return pixels >= highest / 2, True


# --- One mask image per image ---------------------------------------------------------------------


class InstanceImageDataset(ImageFiles):
    """Images in `images`, and in `masks` or `labels` label images of the same names.

    Folders PNGImages and PedMasks (PennFudan) or imgs work as well, and `a_mask.png` belongs to the
    image `a`.

    0, or black, is background; each other value, of 8 or 16 bits, or each other color, is one
    object, whatever the number of its parts. There is one class. So a mask of only black and white
    is one object: `MaskFolderDataset` reads files of this kind, one per object. A black and white
    mask with soft edges, or saved as JPEG, is thresholded at half, with a warning; other files of
    that kind are refused, because their edges would become objects. An image without a mask counts
    as an image without objects, and a warning counts these.
    """

    _warned_of_pieces = False
    _warned_of_soft_edges = False

    def __init__(self, folder: str | Path, class_name: str = "object", strict: bool = False):
        """Create a prepared dataset; `image_info[i]["id"]` is the image's name without suffix.

        folder: contains `images`, and `masks` or `labels`. class_name: of every object.
        strict: raise a ValueError if a mask has no image, instead of skipping it.
        """
        super().__init__()
        folder = Path(folder)
        self.add_class("instances", 1, class_name)
        images = _by_stem(_images_folder(folder))
        masks, strangers = _masks_of(images, folder)
        skipped = SkippedEntries(folder, strict)
        for file in strangers:
            error = ValueError(
                f"A mask must have the name of an image. Received: {file}, and no such image. "
                "Try to rename it."
            )
            skipped.add(error)
        for name, image in images.items():
            mask = str(masks[name]) if name in masks else ""
            self.add_image("instances", image_id=name, path=str(image), instances=mask)
        skipped.finish(self, len(masks) + len(strangers), "masks")
        bare = len(images) - len(masks)
        if bare:
            logger.warning(
                "%d of %d images in %s have no mask: taken as images without objects.",
                bare,
                len(images),
                folder,
            )
        self.prepare()

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one mask per value or color, sorted: bool `[H, W, N]`; class ids, int32 `[N]`."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        file = info["instances"]
        if not file:
            return np.zeros((*size, 0), bool), np.zeros(0, np.int32)
        pixels = read_indices(file, size, info["path"])
        values = np.unique(pixels[pixels > 0])
        if len(values) > MAX_INSTANCES:
            raise ValueError(
                f"An image of instance ids must have at most {MAX_INSTANCES} values. "
                f"Received: {len(values)} in {file}. Try to save it without soft edges, as PNG."
            )
        if len(values) > 1 and (_is_jpeg(file) or _has_soft_edges(pixels)):
            pixels, values = self._threshold(pixels, file), np.array([255])
        if values.tolist() == [255]:
            self._warn_of_pieces(pixels, file)
        check_masks(len(values), *size, file)
        return pixels[:, :, None] == values, np.ones(len(values), np.int32)

    def _threshold(self, pixels: np.ndarray, file: str) -> np.ndarray:
        """Return a black and white image with soft edges as int `[H, W]`, 0 and 255; warn once.

        Raises: ValueError if the image is not black and white.
        """
        white = _white_on_black(pixels)
        if white is None:
            raise ValueError(
                "An image of instance ids must have hard edges and be saved without loss: else its "
                f"edges become objects. Received: {file}, with {len(np.unique(pixels))} values "
                "that blur into each other. Try to export it again as PNG, without anti-aliasing, "
                "and to resize it with nearest neighbors only."
            )
        if not self._warned_of_soft_edges:
            self._warned_of_soft_edges = True
            logger.warning(
                "%s is black and white with soft edges, or went through JPEG: it is cut at half "
                "its highest value, and its white is one object. (Only the first such file is "
                "reported.)",
                file,
            )
        return np.where(white, 255, 0)

    def _warn_of_pieces(self, pixels: np.ndarray, file: str) -> None:
        """Warn once if an object, nonzero in int `[H, W]`, consists of separate pieces."""
        if self._warned_of_pieces:
            return
        labels, _ = cv2.connectedComponents((pixels > 0).astype(np.uint8))
        pieces = labels - 1  # without the background
        if pieces > 1:
            self._warned_of_pieces = True
            logger.warning(
                "%s marks %d separate pieces with one value, 255: they count as one object. If "
                "each is an object, number them, with skimage.measure.label for example.",
                file,
                pieces,
            )


def is_instance_folder(path: Path) -> bool:
    """Return whether a folder contains a folder of images and one of mask images."""
    return bool(image_files(_images_folder(path)) and image_files(_masks_folder(path)))


def _images_folder(folder: Path) -> Path:
    """Return the sub-folder of the images; by default `images`."""
    return _first_with_images(folder, IMAGE_FOLDERS)


def _masks_folder(folder: Path) -> Path:
    """Return the sub-folder of the masks; by default `masks`."""
    return _first_with_images(folder, MASK_FOLDERS)


def _first_with_images(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if image_files(folder / name):
            return folder / name
    return folder / names[0]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return name without suffix -> image file."""
    found: dict[str, Path] = {}
    for file in image_files(folder):
        if file.stem in found:
            raise ValueError(
                "Image names must differ by more than their suffix. "
                f"Received: {found[file.stem].name} and {file.name} in {folder}. "
                "Try to rename or remove one of them."
            )
        found[file.stem] = file
    return found


def _masks_of(images: dict[str, Path], folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return image name -> mask file, and the mask files without an image.

    Raises: ValueError if no mask has an image.
    """
    masks: dict[str, Path] = {}
    strangers: dict[str, Path] = {}
    for name, file in _by_stem(_masks_folder(folder)).items():
        image = name if name in images else name.removesuffix("_mask")
        (masks if image in images else strangers)[image] = file
    files = sorted(strangers.values())
    if not masks:
        received = f"{files[0]}, and no image of that name" if files else listing(folder)
        raise ValueError(
            f"{folder} must contain images in images, and mask images of the same names in masks "
            f"or labels. Received: {received}. "
            "Try to rename it; of the layout <id>/images, <id>/masks name the folder above."
        )
    return masks, files


# --- Soft edges -----------------------------------------------------------------------------------


def _is_jpeg(file: str) -> bool:
    with open(file, "rb") as content:
        return content.read(3) == b"\xff\xd8\xff"


def _has_soft_edges(pixels: np.ndarray) -> bool:
    """Return whether many edge pixels have a value of their own, as after blurring or resizing.

    pixels: int `[H, W]`, 0 outside of the objects.
    """
    padded = np.pad(pixels, 1)
    neighbors = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    equal = [pixels == neighbor for neighbor in neighbors]
    edge = (pixels > 0) & ~np.all(equal, axis=0)
    # An object of one pixel differs from all four neighbors too, but these are background.
    has_object_near = np.any([neighbor > 0 for neighbor in neighbors], axis=0)
    single = edge & ~np.any(equal, axis=0) & has_object_near
    return bool(single.sum() > SOFT_EDGES * edge.sum())


def _white_on_black(pixels: np.ndarray) -> np.ndarray | None:
    """Return the white pixels of a black and white image, bool `[H, W]`; None for others.

    pixels: int `[H, W]`, grey, or colors as 0xRRGGBB. Edges may be grey.
    """
    if pixels.max() > 0xFFFF:
        if np.any(pixels % 0x010101):
            return None  # colors
        pixels = pixels // 0x010101
    highest = pixels.max()
    white = pixels > highest - NOISE
    between = (pixels > NOISE) & ~white
    if highest < 4 * NOISE or between.sum() > white.sum() / 2:
        return None
    return pixels >= highest / 2


# --- Writing --------------------------------------------------------------------------------------


def instance_image(result: Result, size: Sequence[int]) -> np.ndarray:
    """Return one image of all masks, uint8 or uint16 `[H, W]`: 0 is background, k detection k.

    A pixel of several masks belongs to the detection with the highest score. Box-only models give
    filled boxes, of all pixels that a box touches.

    result: as `MaskRCNN.detect` returns. size: (height, width) of the image.
    """
    labels = np.zeros(size, np.uint8 if len(result["scores"]) < 256 else np.uint16)
    masks = result.get("masks")
    for i in np.argsort(result["scores"], kind="stable"):
        if masks is not None:
            labels[mask_plane(masks, i).astype(bool)] = i + 1
        else:
            y1, x1, y2, x2 = outward(result["rois"][i])
            labels[y1:y2, x1:x2] = i + 1
    return labels


class MaskImageWriter(Writer):
    """Writes `png/`: copies of the images, and for each an image of instance ids."""

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder, class_names)
        self._labels = LabelFolder(folder / "png", "masks", ".png")
        self._written: list[Path] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Copy one image and write its mask image."""
        labels = instance_image(result, size)
        hidden = len(result["scores"]) - np.count_nonzero(np.unique(labels))
        if hidden:
            logger.warning(
                "%s: %d detections are hidden by others in the mask image.", image, hidden
            )
        path = self._labels.add(image)
        self._written.append(path)
        with atomic_write(str(path)) as part:
            Image.fromarray(labels).save(part, "PNG")

    def finish(self) -> list[Path]:
        """Return the paths of the mask images."""
        return self._written
