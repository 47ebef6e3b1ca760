"""Masks as image files: one an object, or one an image whose pixels number the objects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.dataset import (
    Dataset,
)
from ..files.image_files import read_pixels
from ..files.limits import check_masks
from .common import ImageFiles, LeftOut, image_files, listing, read_indices
from .results import Result
from .values import short

logger = logging.getLogger("mrcnn")

# Masks read from files are kept, a bit a pixel, up to this many bytes.
PACKED_BYTES = 2**28
PHOTO_FOLDERS, MASK_FOLDERS = ("images", "imgs", "PNGImages"), ("masks", "labels", "PedMasks")
MOST_INSTANCES = (
    10_000  # in an image of instance ids; more are taken for a photo, or for soft edges
)
SOFT_EDGES = 0.15  # of the pixels at the edges of instances: if more have a value of their own, the edges are soft
NOISE = (
    32  # grey levels by which JPEG moves black and white at most, but for the pixels along an edge
)


class MaskFolderDataset(ImageFiles, Dataset):
    """A folder an image, a mask file an object: `<id>/images/*.png` and `<id>/masks/*.png`, one class.

    The layout of the 2018 Data Science Bowl (nuclei). A mask file is nonzero inside the object; one with several
    values has soft edges, or went through JPEG, and is cut at half its highest value, with a warning. An image
    without a `masks` folder counts as an image without objects, and a warning says how many there are.
    """

    _told_of_soft_edges = False

    def __init__(self, folder: str | Path, class_name: str = "object", strict: bool = False):
        """A prepared dataset.

        folder: holds one sub-folder per image. class_name: what every object is. strict: refuse the folder if one of
            its sub-folders cannot be used.
        """
        super().__init__()
        self._packed: dict[
            int, tuple
        ] = {}  # a hundred mask files an image are slow to read in every epoch
        self._packed_bytes = 0
        folder = Path(folder)
        self.add_class("masks", 1, class_name)
        bare, out = 0, LeftOut(folder, strict)
        for entry in image_folders(folder):
            images = image_files(entry / "images")
            if len(images) != 1:
                names = short([path.name for path in images], 200)
                out.add(
                    ValueError(
                        f"{entry / 'images'} must hold exactly one image, and {entry / 'masks'} a file per object. "
                        f"Received: {names}. Try a folder for each image, or the name of the data set itself."
                    )
                )
                continue
            bare += not (entry / "masks").is_dir()
            self.add_image(
                "masks", image_id=entry.name, path=str(images[0]), masks=str(entry / "masks")
            )
        if not self.image_info:
            raise ValueError(
                out.sentences[0]
                if out.sentences
                else f"{folder} must hold folders of the form <id>/images/*.png and <id>/masks/*.png. "
                f"Received: {listing(folder)}. Try the folder above or below it."
            )
        out.warn(len(self.image_info) + len(out.sentences), "folders")
        self.left_out = out.sentences
        if bare:
            logger.warning("%d of %d images in %s have no masks folder: taken as images without objects.",
                           bare, len(self.image_info), folder)  # fmt: skip
        self.prepare()

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per file, by file name: bool [H, W, N], and class ids, int32 [N]."""
        info = self.image_info[image_id]
        if image_id in self._packed:
            bits, shape = self._packed[image_id]
            masks = np.unpackbits(bits, count=np.prod(shape)).reshape(shape).view(bool)
            return np.moveaxis(masks, 0, -1), np.ones(len(masks), np.int32)
        files = image_files(Path(info["masks"]))
        height, width = self.image_size(image_id)
        check_masks(len(files), height, width, info["masks"])
        masks = np.zeros((len(files), height, width), bool)
        for i, file in enumerate(files):
            masks[i], soft = _read_mask(file, (height, width), info["path"])
            if soft and not self._told_of_soft_edges:
                self._told_of_soft_edges = True
                logger.warning(
                    "%s has soft edges, or went through JPEG: its object is where it has at least half its highest "
                    "value. (Only the first such file is reported.)", file,
                )  # fmt: skip
        if self._packed_bytes < PACKED_BYTES:
            self._packed[image_id] = np.packbits(masks), masks.shape
            self._packed_bytes += masks.size // 8
        return np.moveaxis(masks, 0, -1), np.ones(len(files), np.int32)


def image_folders(folder: Path) -> list[Path]:
    """The sub-folders that look like `<id>/images`, by name."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if (entry / "images").is_dir()]


def _read_mask(file: Path, size: tuple[int, int], image: str) -> tuple[np.ndarray, bool]:
    """bool [H, W] where the object of a mask file is, and whether the file has soft edges, so that it was cut.

    The object is where any colour channel is nonzero; alpha is not a colour.
    size: (height, width) that it must have, of the file `image`.
    """
    pixels = read_pixels(file, "A mask file", size=size, image=image)
    if pixels.ndim == 3:
        has_alpha = pixels.shape[2] in (2, 4)
        pixels = pixels[:, :, : pixels.shape[2] - has_alpha].max(axis=2)
    inside, most = pixels > 0, pixels.max(initial=0)
    if np.all(pixels[inside] == most):
        return inside, False
    return pixels >= most / 2, True


class InstanceImageDataset(ImageFiles, Dataset):
    """Photos in `images`, and in `masks` or `labels` an image of the same name whose pixels number the objects.

    PNGImages and PedMasks (PennFudan) or imgs do as well, and `a_mask.png` belongs to the photo `a`.

    0, or black, is background; every other value, of 8 or 16 bits, or every other colour, is one object, however
    many parts it has. One class. So a mask of black and white alone is one object: `MaskFolderDataset` is the reader
    of one such file an object. One of black and white with soft edges, or that went through JPEG, is cut at half,
    with a warning; other files of that kind are refused, for their edges would become objects. A photo without a mask
    counts as an image without objects, and a warning says how many there are.
    """

    _told_of_pieces = _told_of_soft_edges = False

    def __init__(self, folder: str | Path, class_name: str = "object", strict: bool = False):
        """A prepared dataset; `image_info[i]["id"]` is the photo's name without suffix.

        folder: holds `images`, and `masks` or `labels`. class_name: what every object is.
        strict: raise a ValueError if a mask has no photo, instead of leaving it out.
        """
        super().__init__()
        folder = Path(folder)
        self.add_class("instances", 1, class_name)
        photos = _by_stem(images_folder(folder))
        masks = _by_stem(masks_folder(folder))
        masks = {
            name if name in photos else name.removesuffix("_mask"): file
            for name, file in masks.items()
        }
        left_out = LeftOut(folder, strict)
        strangers = {masks.pop(name) for name in set(masks) - set(photos)}
        if not masks:
            received = (
                f"{min(strangers)}, and no image of that name" if strangers else listing(folder)
            )
            raise ValueError(
                f"{folder} must hold photos in images, and images of the same names in masks or labels. Received: "
                f"{received}. Try to rename it; of the layout <id>/images, <id>/masks name the folder above."
            )
        for file in sorted(strangers):
            error = f"A mask must have the name of a photo. Received: {file}, and no such image. Try to rename it."
            left_out.add(ValueError(error))
        for name, photo in photos.items():
            self.add_image(
                "instances", image_id=name, path=str(photo), instances=str(masks.get(name) or "")
            )
        left_out.finish(self, len(masks) + len(strangers), "masks")
        bare = len(photos) - len(masks)
        if bare:
            logger.warning("%d of %d images in %s have no mask: taken as images without objects.",
                           bare, len(photos), folder)  # fmt: skip
        self.prepare()

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per value or colour, in their order: bool [H, W, N], and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        if not info["instances"]:
            return np.zeros((*size, 0), bool), np.zeros(0, np.int32)
        pixels = read_indices(info["instances"], size, info["path"])
        values = np.unique(pixels[pixels > 0])
        if len(values) > MOST_INSTANCES:
            raise ValueError(
                f"An image of instance ids must have at most {MOST_INSTANCES} values. Received: {len(values)} in "
                f"{info['instances']}. Try to save it without soft edges, as PNG."
            )
        if len(values) > 1 and (_is_jpeg(info["instances"]) or _has_soft_edges(pixels)):
            pixels, values = self._black_and_white(pixels, info["instances"]), np.array([255])
        if values.tolist() == [255] and not self._told_of_pieces:
            pieces = cv2.connectedComponents(np.uint8(pixels > 0))[0] - 1
            if pieces > 1:
                self._told_of_pieces = True
                logger.warning(
                    "%s marks %d separate pieces with one value, 255: they count as one object. Where each is one "
                    "itself, number them, with skimage.measure.label for example.",
                    info["instances"], pieces,
                )  # fmt: skip
        check_masks(len(values), *size, info["instances"])
        return pixels[:, :, None] == values, np.ones(len(values), np.int32)

    def _black_and_white(self, pixels: np.ndarray, file: str) -> np.ndarray:
        """int [H, W], 0 and 255, of a file with soft edges or of JPEG, with a warning.

        Raises: ValueError if the file holds more than black and white.
        """
        white = _white_on_black(pixels)
        if white is None:
            raise ValueError(
                "An image of instance ids must have hard edges and be saved without loss: else its edges become "
                f"objects. Received: {file}, with {len(np.unique(pixels))} values that blur into each other. "
                "Try to export it again as PNG, without anti-aliasing, and to resize it with nearest neighbours only."
            )
        if not self._told_of_soft_edges:
            self._told_of_soft_edges = True
            logger.warning(
                "%s is black and white with soft edges, or went through JPEG: it is cut at half its highest value, "
                "and its white is one object. (Only the first such file is reported.)", file,
            )  # fmt: skip
        return np.where(white, 255, 0)


def _is_jpeg(file: str) -> bool:
    with open(file, "rb") as content:
        return content.read(3) == b"\xff\xd8\xff"


def _has_soft_edges(pixels: np.ndarray) -> bool:
    """Whether many pixels at the edges of objects have a value of their own, as blurring and resizing leave them.

    pixels: int [H, W], 0 outside the objects.
    """
    padded = np.pad(pixels, 1)
    neighbours = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    equal = [pixels == neighbour for neighbour in neighbours]
    edge = (pixels > 0) & ~np.all(equal, axis=0)
    # A pixel that differs from all four neighbours; an object of one pixel has only background around it.
    single = (
        edge & ~np.any(equal, axis=0) & np.any([neighbour > 0 for neighbour in neighbours], axis=0)
    )
    return bool(single.sum() > SOFT_EDGES * edge.sum())


def _white_on_black(pixels: np.ndarray) -> np.ndarray | None:
    """bool [H, W] where an image is white, if it is black and white but for its edges; None if it is not.

    pixels: int [H, W], grey, or colours as 0xRRGGBB.
    """
    if pixels.max() > 0xFFFF:
        if np.any(pixels % 0x010101):
            return None  # colours
        pixels = pixels // 0x010101
    most = pixels.max()
    white, between = pixels > most - NOISE, (pixels > NOISE) & (pixels <= most - NOISE)
    if most < 4 * NOISE or between.sum() > white.sum() / 2:
        return None
    return pixels >= most / 2


def images_folder(folder: Path) -> Path:
    """The sub-folder of the photos; `images` if there are none."""
    return next(
        (folder / name for name in PHOTO_FOLDERS if image_files(folder / name)), folder / "images"
    )


def masks_folder(folder: Path) -> Path:
    """The sub-folder of the masks with images in it; `masks` if there are none."""
    return next(
        (folder / name for name in MASK_FOLDERS if image_files(folder / name)), folder / "masks"
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    """Name without suffix -> image file."""
    found: dict[str, Path] = {}
    for file in image_files(folder):
        if file.stem in found:
            raise ValueError(
                f"Image names must differ by more than their suffix. Received: {found[file.stem].name} and "
                f"{file.name} in {folder}. Try to rename or remove one of them."
            )
        found[file.stem] = file
    return found


def instance_image(result: Result, size: Sequence[int]) -> np.ndarray:
    """Return one image of all masks, uint8 or uint16 [H, W]: 0 is background, k the k-th detection.

    A pixel of several masks goes to the detection with the highest score. Box-only models give filled boxes.

    result, size: as for `labelme`.
    """
    labels = np.zeros(size, np.uint8 if len(result["scores"]) < 256 else np.uint16)
    for i in np.argsort(result["scores"], kind="stable"):
        if "masks" in result:
            labels[np.asarray(result["masks"])[:, :, i].astype(bool)] = i + 1
        else:
            y1, x1, y2, x2 = (int(side) for side in result["rois"][i])
            labels[y1:y2, x1:x2] = i + 1
    return labels
