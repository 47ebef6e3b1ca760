"""`open_dataset`: the table of formats, and the reader that fits a path."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data.dataset import Dataset, short_names
from ..data.shapes import ShapesDataset
from ..files.safe_text import clean_name
from .coco import CocoDataset, is_coco
from .cvat import CVATDataset, is_cvat
from .foreign import foreign_files, foreign_tool
from .label_studio import LabelStudioDataset, is_label_studio
from .labelme import LabelmeDataset, is_labelme
from .mask_images import (
    InstanceImageDataset,
    MaskFolderDataset,
    is_instance_folder,
    is_mask_folder,
)
from .reading import SETS, VALIDATION, listing, read_json
from .values import short
from .via import VIADataset, is_via
from .voc import VOCDataset, is_voc
from .yolo import YOLODataset
from .yolo_layout import is_yolo, yolo_pair

__all__ = ["FORMATS", "SETS", "Format", "open_dataset", "split_folders"]

logger = logging.getLogger("mrcnn")


class Format(NamedTuple):
    """A row of the table of formats; exactly one of `is_path` and `is_json` is given."""

    name: str
    reader: type[Dataset]
    forms: dict[str, str]  # what can be read: file or folder -> more about it, for messages
    is_path: Callable[[Path], bool] | None = None  # whether a file or folder is of the format
    is_json: Callable[[Any], bool] | None = None  # whether the content of a JSON file is
    is_one_file_per_image: bool = False  # the reader takes the folder of the JSON files


# The first row that fits a path is its format; JSON files are read if no row fits the path itself.
FORMATS = (
    Format(
        "COCO",
        CocoDataset,
        {"a COCO instances file (.json)": "or a folder that contains one, or annotations/*.json"},
        is_json=is_coco,
    ),
    Format(
        "VGG Image Annotator",
        VIADataset,
        {"a VGG Image Annotator file (.json)": "or a folder that contains one next to its images"},
        is_json=is_via,
    ),
    Format(
        "labelme",
        LabelmeDataset,
        {"a labelme file (.json)": "or a folder of them, one an image"},
        is_json=is_labelme,
        is_one_file_per_image=True,
    ),
    Format(
        "Label Studio",
        LabelStudioDataset,
        {"Label Studio's export (.json)": "or a folder that contains one, images in images/"},
        is_json=is_label_studio,
    ),
    Format(
        "Pascal VOC",
        VOCDataset,
        {
            "a Pascal VOC folder": (
                "with Annotations and JPEGImages, or one of its lists ImageSets/*/*.txt"
            ),
            "VOC's XML files": (
                "next to their images, or in annots/ or annotations/ next to images/"
            ),
        },
        is_path=is_voc,
    ),
    Format(
        "instance images",
        InstanceImageDataset,
        {
            "a folder of images/ and masks/": (
                "(or labels/): for every image an image of instance ids with its name"
            )
        },
        is_path=is_instance_folder,
    ),
    Format(
        "YOLO",
        YOLODataset,
        {
            "YOLO's data.yaml": (
                "or a folder of images/ and labels/*.txt, or of images and .txt files"
            )
        },
        is_path=is_yolo,
    ),
    Format(
        "CVAT",
        CVATDataset,
        {
            "CVAT's annotations.xml": (
                '("CVAT for images 1.1"), or the folder that contains it, images in images/'
            )
        },
        is_path=is_cvat,
    ),
    Format(
        "mask files",
        MaskFolderDataset,
        {"a folder of <id>/images/*.png": ("and <id>/masks/*.png, one mask file per object")},
        is_path=is_mask_folder,
    ),
)
KNOWN_JSON = (
    "COCO's is an object with the lists images, annotations and categories, VIA's has a filename "
    "and regions for every image, labelme's has shapes and imagePath, Label Studio's is a list "
    "of tasks with data and annotations."
)


def _understood() -> str:
    """Return the lines that list what can be read."""
    forms = {"the word shapes": "made images of squares, circles and triangles"}
    for row in FORMATS:
        forms |= row.forms
    lines = [f"  {what:<36}{more}" for what, more in forms.items()]
    return "\n".join(["Understood are:", *lines])


def open_dataset(
    path: str | Path,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    images_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Return a prepared dataset of the data at `path`, in any format of `FORMATS`.

    path: the word "shapes", an annotation file, a list of Pascal VOC, or a folder.
    class_names: the classes that the dataset must have, in the order of their ids, without the
        background: a part of the data need not contain them all or number them alike, and a folder
        of masks does not name its one class. Default: those of the data.
    strict: refuse data with an entry that cannot be used. Default: these are skipped, one warning
        counts them, and `Dataset.left_out` lists them.
    images_dir: the folder of the images, if it is not a usual one; only for annotation files.
    options: passed to the reader: `ShapesDataset` (count, default 500), `CocoDataset`,
        `VIADataset`, `LabelmeDataset`, `VOCDataset`, `InstanceImageDataset` or `MaskFolderDataset`.

    Raises: ValueError that lists the content of `path` and what can be read, or if the classes
        differ.
    """
    names = None if class_names is None else [clean_name(name) for name in class_names]
    common = {"strict": strict, "images_dir": images_dir, "class_names": names}
    dataset = _open(path, {**common, **options})
    if names is not None and dataset.class_names[1:] not in (names, short_names(names)):
        raise ValueError(
            f"The classes of {path} must be {names}. Received: {dataset.class_names[1:]}. "
            "Try data annotated with those classes."
        )
    return dataset


def _open(path: str | Path, options: dict[str, Any]) -> Dataset:
    if str(path) == "shapes":
        return _read(ShapesDataset, {"count": 500, **options})
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"DATA must exist. Received: {path}. {_understood()}")
    for row in FORMATS:
        if row.is_path is not None and row.is_path(path):
            return _read(row.reader, options, path)
    return _open_json(path, options)


def _read(reader: type[Dataset], options: dict[str, Any], *args: Any, **more: Any) -> Dataset:
    """Return the dataset of a reader, given those options of `open_dataset` that it takes.

    Raises: ValueError for an option that only other readers take.
    """
    takes = inspect.signature(reader).parameters
    given = {**options, **more}
    names = given["class_names"]
    if "class_name" in takes and names and ("class_names" in takes or len(names) == 1):
        given.setdefault("class_name", names[0])
    if given["images_dir"] is not None and "images_dir" not in takes:
        raise ValueError(
            "A folder of images can be named for annotation files that list their images. "
            f"Received: {given['images_dir']} for data that {reader.__name__} reads. "
            "Try without it (--images)."
        )
    if "attribute" in given and "attribute" not in takes:
        raise ValueError(
            "A region attribute can be named for files of VIA. "
            f"Received: {given['attribute']!r} for data that {reader.__name__} reads. "
            "Try without it (--attribute)."
        )
    if "class_name" in given and "class_name" not in takes:
        raise ValueError(
            "A class can be named for data that names none. "
            f"Received: {given['class_name']!r} for data that {reader.__name__} reads. "
            "Try without it (--class-name)."
        )
    for name in ("strict", "images_dir", "class_names"):
        if name not in takes:
            del given[name]
    return reader(*args, **given)


# --- JSON files -----------------------------------------------------------------------------------


class _JSONFile(NamedTuple):
    """A JSON file of a known format."""

    row: Format
    file: Path
    data: Any


def _open_json(path: Path, options: dict[str, Any]) -> Dataset:
    """Return the dataset of the annotation file at a path, or in a folder."""
    problems: list[str] = []
    groups = [[path]] if path.is_file() else _json_files(path)
    for files in groups:
        found = _only_known(files, path, problems)
        if found is None:
            continue
        if found.row.is_one_file_per_image:
            return _read(found.row.reader, options, path)
        return _read(found.row.reader, options, found.file, data=found.data)
    received = problems[0] if problems else f"{foreign_files(path) or listing(path)}."
    raise ValueError(f"{path} must contain a known format. Received: {received} {_understood()}")


def _json_files(folder: Path) -> list[list[Path]]:
    """Return the candidates for annotation files in groups; the first with a known file counts."""
    if (folder / "via_region_data.json").is_file():
        return [[folder / "via_region_data.json"]]
    below = folder / "annotations"
    patterns = [(folder, "*.json"), (below, "instances_*.json"), (below, "*.json")]
    return [
        [file for file in sorted(place.glob(pattern)) if file.is_file()]
        for place, pattern in patterns
    ]


def _only_known(files: list[Path], path: Path, problems: list[str]) -> _JSONFile | None:
    """Return the file of a known format; of one file per image the first. None without one.

    problems: gets a message for each other file.

    Raises: ValueError if there are several, or if `path` itself is damaged.
    """
    found = None  # only recognized content stays in memory
    for file in files:
        known = _recognize(file, path, problems)
        if known is None:
            continue
        if found is not None:
            raise ValueError(
                f"{path} must contain one annotation file. "
                f"Received: {found.file.name}, {file.name}, perhaps more. "
                "Try the path of the file itself."
            )
        if known.row.is_one_file_per_image:
            return known
        found = known
    return found


def _recognize(file: Path, path: Path, problems: list[str]) -> _JSONFile | None:
    """Return a file with its format and content; None, with a message in `problems`, for others."""
    if file.suffix.lower() != ".json":
        return None
    try:
        data = read_json(file)
    except ValueError as error:
        if file == path:
            raise
        logger.warning("Skipped a file: %s", error)
        problems.append(str(error))
        return None
    for row in FORMATS:
        if row.is_json is not None and row.is_json(data):
            return _JSONFile(row, file, data)
    tool = foreign_tool(data)
    if tool:
        problems.append(f"{file.name}, {tool}.")
    else:
        problems.append(f"{file.name} contains {_summary(data)}. {KNOWN_JSON}")
    return None


def _summary(data: Any) -> str:
    """Return a short text of the content of a JSON file."""
    if isinstance(data, dict):
        return f"an object with the names {short(list(data))}" if data else "an empty object"
    return f"a list of {len(data)}" if isinstance(data, list) else short(data)


# --- Training and validation data -----------------------------------------------------------------


def split_folders(path: str | Path) -> tuple[Path, Path] | None:
    """Return the training and the validation data in a folder, each a path for `open_dataset`.

    They are the folders train and val (or valid, validation), or COCO's files of these names in the
    folder or in its `annotations`: instances_train2017.json, val.json; or the two sets of YOLO's
    layouts. None without both.
    """
    path = Path(path).expanduser()
    if (path / "train").is_dir():
        for name in VALIDATION:
            if (path / name).is_dir():
                return path / "train", path / name
    for folder in (path, path / "annotations"):
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        train = [file for file in files if _is_subset(file, ("train",))]
        val = [file for file in files if _is_subset(file, VALIDATION)]
        if len(train) == len(val) == 1:
            return train[0], val[0]
    return yolo_pair(path)


def _is_subset(file: Path, names: Sequence[str]) -> bool:
    pattern = rf"(instances_)?({'|'.join(names)})\d*"
    return re.fullmatch(pattern, file.stem, re.IGNORECASE) is not None
