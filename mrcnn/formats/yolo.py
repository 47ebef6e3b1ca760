"""Reader of YOLO's labels: a text file per image, a line per object, coordinates as fractions of the image.

A line is `class x1 y1 x2 y2 ...`, a polygon, or `class cx cy width height`, a box. Label files are parsed when the
data set is opened; pixels are read when asked for.

Layouts: `data.yaml` of Ultralytics and Roboflow; `images/` and `labels/`, with or without folders train, val and test
in each; label files next to the images with `classes.txt` (labelImg) or `obj.names` (darknet, CVAT).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.dataset import Dataset, place_classes
from ..files.limits import MOST_POINTS
from ..files.safe_text import clean_name
from .common import LeftOut, RLEImages, image_files
from .polygons import one_outline, polygons_to_rle, rectangle
from .results import Result, found_in
from .rle import RLE
from .values import short

logger = logging.getLogger("mrcnn")

SPLITS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}  # a key or folder -> set
MOST_YAML_BYTES = (
    2**18
)  # a data.yaml of 10,000 classes has 200 KB; the parser takes seconds for more
_NAMES_KEY = re.compile(rb"""^["']?names["']?\s*:""", re.MULTILINE)
FARTHEST = 1.0  # how far outside of the image a coordinate may lie, as a fraction of it; beyond, it is in pixels


class YOLODataset(RLEImages, Dataset):
    """Labels of YOLO: polygons and boxes. The mask of a box is the filled box, and a warning says how many there are.

    `load_bbox` returns boxes exactly as the files give them; those of polygons enclose their points. Images without a
    label file are images without objects, and a warning says how many. `image_info[i]["id"]` is the image's path
    below its folder, without suffix.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        images_dir: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset.

        path: a data.yaml, its folder, or a folder of one set: of `images` and `labels`, of images whose labels lie in
            a folder `labels` instead of `images`, or of images and label files.
        split: "train", "val" or "test". Default: the only set of `path`, else "train".
        images_dir: where the images are, if `path` holds label files only.
        class_names: all classes, in the order of their ids 1, 2, ...; labels map to them by name. Default: those of
            data.yaml, classes.txt or obj.names; without any, "class 0", "class 1", ...
        strict: raise a ValueError at the first line that cannot be used, instead of leaving it out.
        """
        super().__init__()
        path = Path(path)
        found = _find_sets(path)
        if images_dir is not None:
            found = {"": [Path(images_dir)]}
        sources = _choose_set(found, split, path)
        names, only_boxes = _find_names(
            path if images_dir is not None or path.is_file() else sources[0], path
        )
        labels_dir = _labels_dir(path) if images_dir is not None else None
        images = [(image, folder) for folder in sources for image in _images_of(folder)]
        if not images:
            raise ValueError(
                f"{path} must name folders that hold images. Received: none in {', '.join(map(str, sources))}. "
                "Try to put the images there, or to correct the paths in data.yaml."
            )
        self._left_out = LeftOut(path, strict)
        self._lines = 0
        entries, without = [], 0
        for image, folder in images:
            below = image.relative_to(folder) if folder.is_dir() else Path(image.name)
            file = (
                _label_file(image)
                if labels_dir is None
                else (labels_dir / below).with_suffix(".txt")
            )
            objects = self._read_labels(file, only_boxes) if file.is_file() else []
            without += not file.is_file()
            entries.append((below.with_suffix("").as_posix(), image, file, objects))
        self._add_classes(names, class_names, entries)
        self._add_images(entries)
        self._left_out.finish(self, self._lines, "lines")
        if without:
            logger.warning("%d of %d images in %s have no label file: taken as images without objects.",
                           without, len(images), path)  # fmt: skip
        boxes = sum(sum(info["is_box"]) for info in self.image_info)
        if boxes:
            logger.warning(
                "%d objects in %s are boxes without an outline: masks are the filled boxes.",
                boxes,
                path,
            )
        self.prepare()

    def _read_labels(
        self, file: Path, only_boxes: bool
    ) -> list[tuple[int, list[float], bool, str]]:
        """(class index, polygon or box as fractions, whether it is a box, where it stands) of each usable line.

        only_boxes: what follows a box are keypoints (a data.yaml with `kpt_shape`).
        """
        objects = []
        for number, line in enumerate(
            file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1
        ):
            values = line.split()
            if not values:
                continue
            self._lines += 1
            where = f"{file}, line {number}"
            try:
                index, numbers = _parse_line(values[:5] if only_boxes else values, where)
                polygon, is_box = _polygon_of(numbers, where)
            except ValueError as error:
                self._left_out.add(error)
            else:
                objects.append((index, polygon, is_box, where))
        return objects

    def _add_classes(
        self, names: dict[int, str] | None, wanted: Sequence[str] | None, entries: list
    ) -> None:
        """Add the classes, and set `_class_of`: class index of the label files -> class id."""
        if names is None:
            used = {index for *_, objects in entries for index, *_ in objects}
            listed = dict(enumerate(wanted)) if wanted is not None else {}
            names = listed or {i: f"class {i}" for i in sorted(used)}
        names = {index: clean_name(name) for index, name in sorted(names.items())}
        listed = list(dict.fromkeys(names.values()))
        if wanted is None:
            wanted = listed
        wanted = [clean_name(name) for name in wanted]
        for class_id, name in enumerate(wanted, start=1):
            self.add_class("yolo", class_id, name)
        places = place_classes(listed, wanted, self._left_out.path)
        self._names = names
        self._class_of = {
            index: places[name] + 1 for index, name in names.items() if name in places
        }

    def _add_images(self, entries: list) -> None:
        for image_id, image, file, objects in entries:
            usable = []
            for index, polygon, is_box, where in objects:
                if index in self._class_of:
                    usable.append((self._class_of[index], polygon, is_box))
                    continue
                known = {i: name for i, name in self._names.items() if i in self._class_of}
                self._left_out.add(
                    ValueError(
                        f"A class must be one of {short(known, 300)}. Received: {index} in {where}. "
                        "Try to add it to the names in data.yaml, or to correct the line."
                    )
                )
            self.add_image(
                "yolo",
                image_id=image_id,
                path=str(image),
                file=str(file),
                class_ids=[class_id for class_id, _, _ in usable],
                polygons=[polygon for _, polygon, _ in usable],
                is_box=[is_box for _, _, is_box in usable],
            )

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one run-length code per line, in the file's order, and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = height, width = self.image_size(image_id)
        rles = []
        for polygon in info["polygons"]:
            points = np.reshape(polygon, (-1, 2)) * (width, height)
            rles.append(polygons_to_rle([points.ravel().tolist()], size))
        return rles, self._class_ids(info)

    def load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes, `[N, (y1, x1, y2, x2)]` pixels with fractions, cut at the border, and class ids [N]."""
        info = self.image_info[image_id]
        height, width = self.image_size(image_id)
        boxes = np.zeros((len(info["polygons"]), 4))
        for box, polygon in zip(boxes, info["polygons"], strict=True):
            points = np.reshape(polygon, (-1, 2))
            (x1, y1), (x2, y2) = np.clip([points.min(axis=0), points.max(axis=0)], 0, 1) * (
                width,
                height,
            )
            box[:] = y1, x1, y2, x2
        return boxes, self._class_ids(info)

    def _class_ids(self, info: dict) -> np.ndarray:
        ids = [self.map_source_class_id(f"yolo.{class_id}") for class_id in info["class_ids"]]
        return np.array(ids, np.int32)


# --- Lines --------------------------------------------------------------------------------------------------


def _parse_line(values: list[str], where: str) -> tuple[int, list[float]]:
    """The class index and the coordinates of a line."""
    if len(values) > 2 * MOST_POINTS:
        raise ValueError(
            f"A polygon must have at most {MOST_POINTS:,} points. Received: {len(values):,} numbers in {where}. "
            "Try to simplify it."
        )
    try:
        numbers = np.array(values, float)
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all() or numbers[0] != int(numbers[0]):
        raise ValueError(
            f"A line must be a class number and coordinates. Received: {short(' '.join(values[:40]))} in {where}. "
            "Try to export the labels again."
        )
    coordinates = numbers[1:]
    if len(coordinates) and not -FARTHEST <= coordinates.min() <= coordinates.max() <= 1 + FARTHEST:
        raise ValueError(
            "Coordinates must be fractions of the image's width and height, 0 to 1. Received: "
            f"{coordinates.min():g} to {coordinates.max():g} in {where}. Try to export the labels normalised."
        )
    return int(numbers[0]), coordinates.tolist()


def _polygon_of(numbers: list[float], where: str) -> tuple[list[float], bool]:
    """The outline of a line's coordinates, and whether they are a box: center, width and height."""
    if len(numbers) == 4:
        cx, cy, width, height = numbers
        if width <= 0 or height <= 0:
            raise ValueError(
                f"A box must have a width and a height. Received: {width:g} and {height:g} in {where}. "
                "Try to draw it again, or delete the line."
            )
        return rectangle(cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2), True
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(
            "A line must hold a box, 4 numbers after the class, or a polygon, x and y of at least 3 points. Received: "
            f"{len(numbers)} numbers after the class in {where}. Try to export the labels again, without confidences."
        )
    return numbers, False


# --- Layouts ------------------------------------------------------------------------------------------------


def is_yolo(path: Path) -> bool:
    """Whether a file is a data.yaml, or a folder holds label files of YOLO next to its images or in `labels`."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return path.is_dir() and bool(_find_sets(path))


def yolo_sets(path: str | Path) -> dict[str, list[Path]]:
    """Set ("train", "val", "test", or "" if it is the only one) -> its folders or lists of images.

    path: as of `YOLODataset`. Empty if nothing of YOLO lies there.
    """
    return _find_sets(Path(path))


def yolo_pair(path: str | Path) -> tuple[Path, Path] | None:
    """The folders of the training and the validation images, each a path for `YOLODataset`; None without such a pair.

    path: a data.yaml or a folder. The folders must find the same class names by themselves.
    """
    path = Path(path)
    if not is_yolo(path):  # an annotation file of another tool is not parsed as YAML
        return None
    sets = _find_sets(path)
    pair = [sets.get(name, []) for name in ("train", "val")]
    if not all(len(places) == 1 and places[0].is_dir() for places in pair):
        return None
    (train,), (val,) = pair
    names = _find_names(path, path)
    return (train, val) if _find_names(train, train) == _find_names(val, val) == names else None


def _find_sets(path: Path) -> dict[str, list[Path]]:
    file = path if path.is_file() else _yaml_file(path)
    if file is not None:
        sets = _sets_of_yaml(file)
        if sets or path.is_file():
            return sets
    folder = path
    if not folder.is_dir():
        return {}
    if (folder / "images").is_dir():
        sets = {
            SPLITS[d.name.lower()]: [d]
            for d in _folders(folder / "images")
            if d.name.lower() in SPLITS
        }
        sets = {name: dirs for name, dirs in sets.items() if _has_labels(dirs[0])}
        return sets or ({"": [folder / "images"]} if _has_labels(folder / "images") else {})
    darknet = {d.name[4:-5].lower(): [d] for d in _folders(folder) if d.match("obj_*_data")}
    if darknet:
        return {SPLITS.get(name, name): dirs for name, dirs in darknet.items()}
    # Roboflow's layout without its data.yaml
    sets = {
        SPLITS[d.name.lower()]: [d / "images"] for d in _folders(folder) if d.name.lower() in SPLITS
    }
    sets = {name: dirs for name, dirs in sets.items() if _has_labels(dirs[0])}
    return sets or ({"": [folder]} if _has_labels(folder) else {})


def _choose_set(found: dict[str, list[Path]], split: str | None, path: Path) -> list[Path]:
    """The folders or lists of one set."""
    name = (
        SPLITS.get(split, split)
        if split is not None
        else next((s for s in ("", "train") if s in found), None)
    )
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name not in found:
        raise ValueError(
            f"{path} must have images and label files of the set {split or 'train'}. Received: "
            f"{', '.join(found) or 'no images with label files (.txt)'}. Try the folder of the images themselves."
        )
    others = [
        f"{other} in {', '.join(map(str, dirs))}" for other, dirs in found.items() if other != name
    ]
    if others and split is None:
        logger.info("Reading the set %s of %s. There are also: %s", name, path, "; ".join(others))
    return found[name]


def _has_labels(folder: Path) -> bool:
    """Whether an image of a folder has a label file."""
    return any(_label_file(image).is_file() for image in image_files(folder))


def _label_file(image: Path) -> Path:
    """The label file of an image: in `labels` instead of the last folder `images` of its path, else next to it."""
    parts = image.absolute().parts
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        file = Path(*parts[: places[-1]], "labels", *parts[places[-1] + 1 :]).with_suffix(".txt")
        if file.is_file():
            return file
    return image.with_suffix(".txt")


def _labels_dir(path: Path) -> Path:
    """Where label files are if the images are elsewhere: in `labels`, or in the folder itself."""
    folder = path.parent if path.is_file() else path
    return folder / "labels" if (folder / "labels").is_dir() else folder


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())


def _images_of(source: Path) -> list[Path]:
    """The images of a folder and of the folders in it, or those that a list (.txt) names."""
    if source.is_dir():
        folders = sorted({source, *(entry for entry in source.rglob("*") if entry.is_dir())})
        return [image for folder in folders for image in image_files(folder)]
    lines = source.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    named = [line.strip() for line in lines if line.strip()]
    return [
        found for found in (_locate(name, [source.parent]) for name in named) if found is not None
    ]


# --- data.yaml and lists of names ---------------------------------------------------------------------------


class _PlainLoader(yaml.BaseLoader):
    """Texts, lists and dicts only: a class called no, null or 1 keeps its name. Aliases could grow without limit."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> dict:
    """Return the content of a data.yaml, every value a text, list or dict.

    Raises: ValueError that names the file if it cannot be read or is no object.
    """
    try:
        if file.stat().st_size > MOST_YAML_BYTES:
            raise ValueError(f"{file.stat().st_size:,} bytes")
        data = yaml.load(file.read_bytes(), _PlainLoader)  # noqa: S506, the loader makes texts, lists and dicts only
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file} must be YAML of at most {MOST_YAML_BYTES:,} bytes, without aliases. Received: "
            f"{short(reason, 200)}. Try to export it again."
        ) from error
    if not isinstance(data, dict):
        raise ValueError(
            f"{file} must hold names: and train:. Received: {short(data)}. Try the data.yaml of YOLO."
        )
    return data


def _yaml_file(folder: Path) -> Path | None:
    """The data.yaml of a folder: the file of that name, else the first YAML file with `names`."""
    files = sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml"))
    files.sort(key=lambda file: file.stem != "data")
    for file in files[:20]:
        if (
            file.is_file()
            and file.stat().st_size <= MOST_YAML_BYTES
            and _NAMES_KEY.search(file.read_bytes())
        ):
            return file
    return None


def _sets_of_yaml(file: Path) -> dict[str, list[Path]]:
    """Set -> folders or lists of images, of those that exist."""
    data = read_yaml(file)
    root = file.parent / _text(data.get("path"))
    found = {}
    for key, name in SPLITS.items():
        values = data.get(key)
        values = values if isinstance(values, list) else [values]
        places = [_locate(_text(value), [root, file.parent]) for value in values if _text(value)]
        places = [place for place in places if place is not None]
        if places:
            found.setdefault(name, places)
    return found


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _locate(name: str, roots: list[Path]) -> Path | None:
    """The file or folder that a text names, seen from one of the roots.

    Paths of another machine, and Roboflow's `../train/images` for a folder next to data.yaml, are found by their last
    parts. None if there is nothing.
    """
    name = name.replace("\\", "/")
    parts = [part for part in Path(name).parts if part not in ("..", ".", "/")]
    shortest = min(2, len(parts))
    candidates = [root / name for root in roots]
    candidates += [
        root / Path(*parts[i:]) for i in range(len(parts) - shortest + 1) for root in roots if parts
    ]
    return next((place for place in candidates if _exists(place)), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a null character
        return False


def _find_names(start: Path, path: Path) -> tuple[dict[int, str] | None, bool]:
    """Class index -> name by the nearest data.yaml, classes.txt or obj.names, and whether labels hold keypoints.

    start: a data.yaml or a folder; the folders above it are searched as well, up to the one of `path` and two more.
    """
    if path.is_file():
        return _names_of_yaml(path)
    for folder in dict.fromkeys((path, start, *start.absolute().parents[:2])):
        folder = folder if folder.is_dir() else folder.parent
        file = _yaml_file(folder)
        if file is not None:
            return _names_of_yaml(file)
        lists = [folder / "classes.txt", folder / "labels" / "classes.txt", folder / "obj.names"]
        lists += sorted(folder.glob("*.names"))
        for file in lists:
            if file.is_file():
                lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
                return dict(enumerate(line.strip() for line in lines if line.strip())), False
    return None, False


def _names_of_yaml(file: Path) -> tuple[dict[int, str] | None, bool]:
    data = read_yaml(file)
    names = data.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and _text(data.get("nc")).isdecimal() and int(data["nc"]) <= 10_000:
        names = {i: f"class {i}" for i in range(int(data["nc"]))}
    keys_fit = isinstance(names, dict) and all(str(key).isdecimal() for key in names)
    if (
        not names
        or not keys_fit
        or not all(isinstance(name, str) and name.strip() for name in names.values())
    ):
        raise ValueError(
            f"names in {file} must be a list of class names, or number: name for each. Received: {short(names)}. "
            "Try names: [cat, dog]."
        )
    return {int(key): name for key, name in names.items()}, "kpt_shape" in data


def yolo_lines(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int]
) -> list[str]:
    """Return the lines of the YOLO label file of one image, a line per detection: `class x1 y1 x2 y2 ...`.

    Classes count from 0 without the background; coordinates are fractions of width and height. Parts and holes are
    joined by bridges (`one_outline`), as Ultralytics joins the parts of COCO's objects. Lines carry no scores: they
    are labels to train on. Detections of box-only models are `class cx cy width height`.

    result, class_names, file_name, size: as for `labelme`.
    """
    height, width = size
    lines = []
    for i, _, _, parts in found_in(result, class_names, file_name):
        if "masks" in result:
            points = one_outline([ring for part in parts for ring in part]) / (width, height)
        else:
            (x1, y1), (x2, y2) = parts[0][0][[0, 2]] / (width, height)
            points = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
        lines.append(
            " ".join(
                [
                    str(int(result["class_ids"][i]) - 1),
                    *(f"{value:.8g}" for value in points.ravel()),
                ]
            )
        )
    return lines
