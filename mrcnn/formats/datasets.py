"""Datasets ready to train: one class a format, and `open_dataset` for any.

Here are the made shapes, folders of masks, and the joining of several datasets; COCO's files, Pascal VOC's layout and
the annotation tools' files have rooms of their own and are handed on. Every reader checks the numbers of an
annotation file when it opens it and touches no pixels then; images and masks are read when asked for. Whatever is
wrong is a ValueError that names the file, the entry and the remedy.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..data.dataset import Dataset, boxes_alone, match_class_names, overrides, short_names
from ..files.image_files import read_pixels
from ..files.limits import check_masks
from ..files.safe_text import clean_name
from .coco import CocoDataset, is_coco
from .cvat import CVATDataset, is_cvat
from .label_tools import LabelmeDataset, VIADataset, foreign_files, foreign_tool, is_labelme, is_via
from .polygons import (
    IMAGE_SUFFIXES,
    ImageFiles,
    LeftOut,
    image_files,
    read_indices,
    read_json,
    short,
)
from .voc import VOCDataset, is_voc, voc_list
from .yolo import YOLODataset, is_yolo, yolo_pair

__all__ = [
    "IMAGE_SUFFIXES",
    "CVATDataset",
    "CocoDataset",
    "InstanceImageDataset",
    "JoinedDataset",
    "LabelmeDataset",
    "MaskFolderDataset",
    "ShapesDataset",
    "VIADataset",
    "VOCDataset",
    "YOLODataset",
    "open_dataset",
]

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


# --- Made data ----------------------------------------------------------------------------------------------


class ShapesDataset(Dataset):
    """Pictures of squares, circles and triangles, drawn on the fly: the data of `mrcnn demo`.

    Each picture has a noisy background and one to four shapes of 12 to 64 px in colours that stand out from
    the background and from each other. Shapes may overlap: the upper one takes its pixels from the masks
    below. A shape that would hide more than three tenths of another is not drawn at all (the original's sample
    allowed boxes to overlap as much), so everything in a picture can be recognised. A picture depends on (seed,
    image_id) only: different seeds are disjoint sets.
    """

    CLASSES = ("square", "circle", "triangle")
    SIDES = (12, 64)  # smallest and largest side, pixels
    MOST_SHAPES = 4
    LEAST_VISIBLE = 0.7  # of a shape's own pixels
    LEAST_CONTRAST = 40.0  # CIELAB distance of two colours; about 2 is the least an eye tells apart
    NOISE = 12.0  # standard deviation of the background, in grey levels

    def __init__(self, count: int, size: tuple[int, int] = (128, 128), seed: int = 0):
        """A prepared dataset of made pictures.

        count: number of pictures. size: (height, width), pixels, at least 12 each. seed: names the set.
        """
        super().__init__()
        if min(size) < self.SIDES[0]:
            raise ValueError(
                f"size must be at least {self.SIDES[0]} pixels each way. Received: {size}. Try (128, 128)."
            )
        self.size, self.seed = (int(size[0]), int(size[1])), int(seed)
        for class_id, name in enumerate(self.CLASSES, start=1):
            self.add_class("shapes", class_id, name)
        for i in range(count):
            self.add_image("shapes", image_id=i, path=None, height=self.size[0], width=self.size[1])
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """The picture, uint8 [H, W, 3]."""
        masks, _, (background, *colors), rng = self._scene(image_id)
        noise = rng.normal(0, self.NOISE, (*self.size, 3))
        image = np.clip(background + noise, 0, 255).astype(np.uint8)
        for mask, color in zip(masks, colors, strict=True):
            image[mask] = color
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The visible part of each shape, bool [H, W, N], and class ids, int32 [N]."""
        masks, class_ids, _, _ = self._scene(image_id)
        return np.stack(masks, axis=-1), np.array(class_ids, np.int32)

    def image_reference(self, image_id: int) -> str:
        """Which picture it is, in words."""
        return f"shapes, seed {self.seed}, picture {image_id}"

    def _scene(self, image_id: int) -> tuple[list, list, list, np.random.Generator]:
        """Visible masks, class ids, colours (the background's first), and the generator for the noise."""
        rng = np.random.default_rng([self.seed, int(image_id)])
        colors = [rng.integers(0, 256, 3)]
        whole, visible, class_ids = [], [], []
        for _ in range(rng.integers(1, self.MOST_SHAPES + 1)):
            class_id = int(rng.integers(1, len(self.CLASSES) + 1))
            shape = self._shape(rng, self.CLASSES[class_id - 1])
            below = [mask & ~shape for mask in visible]
            left = [now.sum() / full.sum() for now, full in zip(below, whole, strict=True)]
            if left and min(left) < self.LEAST_VISIBLE:
                continue
            colors.append(self._standout_color(rng, colors))
            whole, visible, class_ids = [*whole, shape], [*below, shape], [*class_ids, class_id]
        return visible, class_ids, colors, rng

    def _shape(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """The mask of one shape at a random place, wholly inside the picture."""
        height, width = self.size
        side = int(rng.integers(self.SIDES[0], min(self.SIDES[1], height, width) + 1))
        y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        mask = np.zeros(self.size, np.uint8)
        if name == "square":
            mask[y : y + side, x : x + side] = 1
        elif name == "circle":
            rows, columns = np.ogrid[:side, :side]
            middle = (side - 1) / 2
            inside = (rows - middle) ** 2 + (columns - middle) ** 2 <= (side / 2) ** 2
            mask[y : y + side, x : x + side] = inside
        else:
            corners = [(x, y + side - 1), (x + side - 1, y + side - 1), (x + (side - 1) // 2, y)]
            cv2.fillPoly(mask, [np.array(corners)], 1)
        return mask.astype(bool)

    def _standout_color(self, rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
        """A random colour that an eye tells from each of the others, uint8 [3]."""
        while True:  # five colours leave most of the colour space free: a few tries
            color = rng.integers(0, 256, 3)
            lab = cv2.cvtColor(np.float32([[color, *others]]) / 255, cv2.COLOR_RGB2LAB)[0]
            if np.linalg.norm(lab[1:] - lab[0], axis=1).min() >= self.LEAST_CONTRAST:
                return color


# --- One mask file per instance -----------------------------------------------------------------------------


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
        for entry in _image_folders(folder):
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


def _image_folders(folder: Path) -> list[Path]:
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


# --- One image of instance ids per photo --------------------------------------------------------------------


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
        photos = _by_stem(_photos_folder(folder))
        masks = _by_stem(_masks_folder(folder))
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


def _photos_folder(folder: Path) -> Path:
    """The sub-folder of the photos; `images` if there are none."""
    return next(
        (folder / name for name in PHOTO_FOLDERS if image_files(folder / name)), folder / "images"
    )


def _masks_folder(folder: Path) -> Path:
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


# --- Several datasets as one --------------------------------------------------------------------------------


class JoinedDataset(Dataset):
    """Several datasets as one, to train on together. Classes of one name are one class.

    An image teaches only the classes that its own source knows: what another source would call a cat is not
    taught to be background (the `active_class_ids` of its image_meta, made from `source_class_ids`). Sources keep
    their names and ids, `map_source_class_id("coco.18")`; a name that comes again is numbered, `"coco_2.18"`.
    """

    def __init__(self, datasets: Sequence[Dataset]):
        """A prepared dataset of the images of all, in their order.

        datasets: prepared ones.

        Raises: ValueError where there is none, or one is not prepared.
        """
        super().__init__()
        datasets = list(datasets)
        unprepared = [
            type(dataset).__name__ for dataset in datasets if not hasattr(dataset, "num_classes")
        ]
        if not datasets or unprepared:
            raise ValueError(
                f"Datasets must be prepared, at least one of them. Received: {unprepared or 'none'}. "
                "Try dataset.prepare()."
            )
        self._places: list[
            tuple[Dataset, int, np.ndarray]
        ] = []  # of each image: dataset, its id there, class table
        self._known: dict[str, dict] = {}  # source -> its class id -> class here
        for dataset in datasets:
            self._add(dataset)
        if any(overrides(dataset, "load_bbox") for dataset in datasets):
            self.load_bbox = self._load_bbox  # else boxes are those of the masks, as everywhere
        self.prepare()

    def _add(self, dataset: Dataset) -> None:
        sources = {source: self._free_name(source) for source in dataset.sources if source}
        here = [info["name"] for info in self.class_info[1:]]
        places = match_class_names([info["name"] for info in dataset.class_info[1:]], here)
        table = np.zeros(dataset.num_classes, np.int32)
        for class_id, info in enumerate(dataset.class_info[1:], start=1):
            name, source = info["name"], sources[info["source"]]
            if name not in places:
                places[name] = len(self.class_info) - 1
                self.add_class(source, info["id"], name)
            table[class_id] = places[name] + 1
            self._known.setdefault(source, {})[info["id"]] = int(table[class_id])
        self.left_out += dataset.left_out
        for image_id in dataset.image_ids:
            info = dataset.image_info[image_id]
            self.image_info.append({**info, "source": sources.get(info["source"], info["source"])})
            self._places.append((dataset, int(image_id), table))

    def _free_name(self, source: str) -> str:
        count, name = 1, source
        while name in self._known:
            count += 1
            name = f"{source}_{count}"
        return name

    def prepare(self, class_map=None) -> None:
        """Number classes and images; classes that several sources share belong to each of them."""
        super().prepare(class_map)
        self.sources = ["", *self._known]
        for source, known in self._known.items():
            self.source_class_ids[source] = sorted({0, *known.values()})
            self.class_from_source_map.update(
                {f"{source}.{i}": class_id for i, class_id in known.items()}
            )

    def get_source_class_id(self, class_id: int, source: str):
        """The id that a source gave to a class.

        Raises: ValueError where the source does not know the class.
        """
        ids = [i for i, here in self._known.get(source, {}).items() if here == class_id]
        return ids[0] if ids else super().get_source_class_id(class_id, source)

    def image_reference(self, image_id: int) -> str:
        """What the image's own dataset says."""
        dataset, own_id, _ = self._places[image_id]
        return dataset.image_reference(own_id)

    def load_image(self, image_id: int) -> np.ndarray:
        """The image, as its own dataset gives it."""
        dataset, own_id, _ = self._places[image_id]
        return dataset.load_image(own_id)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The masks of its own dataset, and class ids of this one, int32 [N], negative for crowds."""
        dataset, own_id, table = self._places[image_id]
        masks, class_ids = dataset.load_mask(own_id)
        return masks, _translated(class_ids, table)

    def load_class_ids(self, image_id: int) -> np.ndarray:
        """Class ids of this dataset, int32 [N], negative for crowds; read as its own dataset reads them."""
        dataset, own_id, table = self._places[image_id]
        return _translated(dataset.load_class_ids(own_id), table)

    @property
    def boxes_only(self) -> bool:
        """Whether none of the datasets has masks."""
        return all(boxes_alone(dataset) for dataset, _, _ in self._places)

    def annotated_boxes(self, image_id: int) -> list[dict]:
        """What its own dataset's annotations say of boxes and areas; empty if they say nothing."""
        dataset, own_id, _ = self._places[image_id]
        return dataset.annotated_boxes(own_id) if hasattr(dataset, "annotated_boxes") else []

    def _load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The boxes of its own dataset, and class ids of this one; `load_bbox` where a dataset has its own."""
        dataset, own_id, table = self._places[image_id]
        boxes, class_ids = dataset.load_bbox(own_id)
        return boxes, _translated(class_ids, table)


def _translated(class_ids, table: np.ndarray) -> np.ndarray:
    """int32 [N] by a table of ids; the sign stays."""
    class_ids = np.asarray(class_ids, np.int32)
    return np.sign(class_ids) * table[np.abs(class_ids)]


# --- Recognising a format -----------------------------------------------------------------------------------

UNDERSTOOD = """\
Understood are:
  the word shapes                     made pictures of squares, circles and triangles
  a COCO instances file (.json)       or a folder that holds one, or annotations/*.json
  a VGG Image Annotator file (.json)  or a folder that holds one beside its images
  a labelme file (.json)              or a folder of them, one an image
  a Pascal VOC folder                 with Annotations and JPEGImages, or one of its lists ImageSets/*/*.txt
  VOC's XML files                     beside their images, or in annots/ or annotations/ beside images/
  YOLO's data.yaml                    or a folder of images/ and labels/*.txt, or of images and .txt files
  CVAT's annotations.xml              ("CVAT for images 1.1"), or the folder that holds it, images in images/
  a folder of images/ and masks/      (or labels/): for every photo an image of instance ids with its name
  a folder of <id>/images/*.png and <id>/masks/*.png, one mask file per object"""
KNOWN_JSON = (
    "COCO's is an object with the lists images, annotations and categories, VIA's has a filename and regions for every "
    "image, labelme's has shapes and imagePath."
)
VALIDATION = ("val", "valid", "validation")
SETS = ("train", *VALIDATION, "test")


def open_dataset(
    path: str | Path,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    images_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """A prepared dataset from whatever lies at `path`, recognised by its content.

    path: the word "shapes", an annotation file, a list of Pascal VOC, or a folder.
    class_names: what its classes must be, in the order of their ids, without the background: a part of the data need
        not show them all or number them alike, and a folder of masks does not name its one class. Default: those it
        has.
    strict: refuse data with an entry that cannot be used. Default: such entries are left out, one warning counts
        them, and `Dataset.left_out` lists them.
    images_dir: where the images are, if they are not in one of the usual places; for annotation files only.
    options: handed to the reader: `ShapesDataset` (count, default 500), `CocoDataset`, `VIADataset`,
        `LabelmeDataset`, `VOCDataset`, `InstanceImageDataset` or `MaskFolderDataset`.

    Raises: ValueError that lists what was found and what is understood, or if the classes are others.
    """
    names = None if class_names is None else [clean_name(name) for name in class_names]
    dataset = _open(
        path, {"strict": strict, "images_dir": images_dir, "class_names": names, **options}
    )
    if names is not None and dataset.class_names[1:] not in (names, short_names(names)):
        raise ValueError(
            f"The classes of {path} must be {names}. Received: {dataset.class_names[1:]}. "
            "Try data annotated with those classes."
        )
    return dataset


def _read(reader: type[Dataset], options: dict, *args: Any, **more: Any) -> Dataset:
    """The dataset that a reader makes of its own arguments and of those options of `open_dataset` that it takes."""
    takes = inspect.signature(reader).parameters
    given = {**options, **more}
    names = given["class_names"]
    if "class_name" in takes and names and ("class_names" in takes or len(names) == 1):
        given.setdefault("class_name", names[0])
    if given["images_dir"] is not None and "images_dir" not in takes:
        raise ValueError(
            f"A folder of images can be named for annotation files that list their images. Received: "
            f"{given['images_dir']} for data that {reader.__name__} reads. Try without it (--images)."
        )
    if "attribute" in given and "attribute" not in takes:
        raise ValueError(
            f"A region attribute can be named for files of VIA. Received: {given['attribute']!r} for data that "
            f"{reader.__name__} reads. Try without it (--attribute)."
        )
    for name in ("strict", "images_dir", "class_names"):
        if name not in takes:
            del given[name]
    return reader(*args, **given)


def _open(path: str | Path, options: dict) -> Dataset:
    if str(path) == "shapes":
        return _read(ShapesDataset, {"count": 500, **options})
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"DATA must exist. Received: {path}. {UNDERSTOOD}")
    if path.is_dir() and is_voc(path):
        return _read(VOCDataset, options, path)
    if path.is_file() and voc_list(path):
        return _read(VOCDataset, options, *voc_list(path))
    if image_files(_photos_folder(path)) and image_files(_masks_folder(path)):
        return _read(InstanceImageDataset, options, path)
    if is_yolo(path):
        return _read(YOLODataset, options, path)
    if is_cvat(path):
        return _read(CVATDataset, options, path)
    if [folder for folder in _image_folders(path) if folder.name not in SETS]:
        return _read(MaskFolderDataset, options, path)
    return _open_json(path, options)


def _open_json(path: Path, options: dict) -> Dataset:
    """The dataset of the annotation file at a path, or in a folder."""
    unknown = []
    for files in [[path]] if path.is_file() else _json_files(path):
        found = []  # only contents that are recognised stay in memory
        for file in files:
            if file.suffix.lower() != ".json":
                continue
            try:
                data = read_json(file)
            except ValueError as error:
                if path.is_file():
                    raise
                logger.warning("Skipped a file: %s", error)
                unknown.append(str(error))
                continue
            if is_labelme(data) and not found:
                return _read(LabelmeDataset, options, path)
            reader = CocoDataset if is_coco(data) else VIADataset if is_via(data) else None
            if reader is not None or is_labelme(data):
                found.append((reader, file, data))
            else:
                tool = foreign_tool(data)
                unknown.append(
                    f"{file.name}, {tool}."
                    if tool
                    else f"{file.name} holds {_outline(data)}. {KNOWN_JSON}"
                )
            if len(found) > 1:
                raise ValueError(
                    f"{path} must hold one annotation file. Received: {', '.join(f.name for _, f, _ in found)}, "
                    "perhaps more. Try the path of the file itself."
                )
        if found:
            reader, file, data = found[0]
            return _read(reader, options, file, data=data)
    why = unknown[0] if unknown else f"{foreign_files(path) or listing(path)}."
    raise ValueError(f"{path} must hold a known format. Received: {why} {UNDERSTOOD}")


def _outline(data: Any) -> str:
    """What kind of thing a JSON file holds."""
    if isinstance(data, dict):
        return f"an object with the names {short(list(data))}" if data else "an empty object"
    return f"a list of {len(data)}" if isinstance(data, list) else short(data)


def _json_files(folder: Path) -> list[list[Path]]:
    """The annotation files to look at in a folder, in groups of which the first that holds any counts."""
    if (folder / "via_region_data.json").is_file():
        return [[folder / "via_region_data.json"]]
    below = folder / "annotations"
    places = (folder, "*"), (below, "instances_*"), (below, "*")
    return [
        [file for file in sorted(place.glob(f"{name}.json")) if file.is_file()]
        for place, name in places
    ]


def split_folders(path: str | Path) -> tuple[Path, Path] | None:
    """The training and the validation data in a folder, each a path for `open_dataset`; None if it holds no such pair.

    They are the folders train and val (or valid, validation), or COCO's files of these names in the folder or in its
    `annotations`: instances_train2017.json, val.json; or the two sets of YOLO's layouts.
    """
    path = Path(path).expanduser()
    if (path / "train").is_dir():
        folder = next((path / name for name in VALIDATION if (path / name).is_dir()), None)
        if folder is not None:
            return path / "train", folder
    for folder in (path, path / "annotations"):
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        train = [file for file in files if _is_subset(file, ("train",))]
        val = [file for file in files if _is_subset(file, VALIDATION)]
        if len(train) == len(val) == 1:
            return train[0], val[0]
    return yolo_pair(path)


def _is_subset(file: Path, names: Sequence[str]) -> bool:
    return (
        re.fullmatch(rf"(instances_)?({'|'.join(names)})\d*", file.stem, re.IGNORECASE) is not None
    )


def listing(path: Path) -> str:
    """What lies in a folder, shortly, and a hint when its sub-folders are the sets themselves."""
    if not path.is_dir():
        return f"a file {path.name}" if path.exists() else "nothing: it does not exist"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    found = ", ".join(names[:10]) + more or "an empty folder"
    sets = [
        name
        for name in names
        if name.rstrip("/").lower() in SETS or (path / name / "JPEGImages").is_dir()
    ]
    return found + (f" (name one of {', '.join(sets)} to use it)" if sets else "")
