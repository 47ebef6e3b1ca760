"""`open_dataset`: a prepared dataset from whatever lies at a path."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.dataset import (
    Dataset,
    short_names,
)
from ..data.shapes import ShapesDataset
from ..files.safe_text import clean_name
from .coco import CocoDataset, is_coco
from .common import SETS, VALIDATION, image_files, listing, read_json
from .cvat import CVATDataset, is_cvat
from .foreign import foreign_files, foreign_tool
from .labelme import LabelmeDataset, is_labelme
from .mask_images import (
    InstanceImageDataset,
    MaskFolderDataset,
    image_folders,
    images_folder,
    masks_folder,
)
from .values import short
from .via import VIADataset, is_via
from .voc import VOCDataset, is_voc, voc_list
from .yolo import YOLODataset, is_yolo, yolo_pair

logger = logging.getLogger("mrcnn")

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
    if image_files(images_folder(path)) and image_files(masks_folder(path)):
        return _read(InstanceImageDataset, options, path)
    if is_yolo(path):
        return _read(YOLODataset, options, path)
    if is_cvat(path):
        return _read(CVATDataset, options, path)
    if [folder for folder in image_folders(path) if folder.name not in SETS]:
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
