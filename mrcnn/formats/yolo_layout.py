"""The files of a YOLO data set: its sets of images, their label files and the class names.

Layouts: `data.yaml` of Ultralytics and Roboflow; `images/` and `labels/`, with or without folders
train, val and test in each; label files next to the images with `classes.txt` (labelImg) or
`obj.names` (darknet, CVAT).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .reading import image_files
from .values import short

logger = logging.getLogger("mrcnn")

# A key of data.yaml, or the name of a folder -> the set.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# A data.yaml of 10,000 classes has 200 KB; the parser takes seconds for more.
MAX_YAML_BYTES = 2**18
MAX_CLASSES = 10_000  # that `nc` may announce without names
_NAMES_KEY = re.compile(rb"""^["']?names["']?\s*:""", re.MULTILINE)

Sets = dict[str, list[Path]]  # "train", "val", "test", or "" if it is the only one -> places


def is_yolo(path: Path) -> bool:
    """Return whether a path is a YAML file, or a folder with label files of YOLO.

    They are next to their images or in `labels`.
    """
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return path.is_dir() and bool(find_sets(path))


def yolo_pair(path: Path) -> tuple[Path, Path] | None:
    """Return the folders of the training and the validation images; None without both.

    Each is a path for `YOLODataset`.

    path: a data.yaml or a folder. The folders must imply the same class names on their own.
    """
    if not is_yolo(path):  # an annotation file of another tool is not parsed as YAML
        return None
    sets = find_sets(path)
    places = [sets.get(name, []) for name in ("train", "val")]
    if not all(len(each) == 1 and each[0].is_dir() for each in places):
        return None
    train, val = places[0][0], places[1][0]
    names = find_names(path, path)
    if find_names(train, train) == find_names(val, val) == names:
        return train, val
    return None


# --- Sets of images -------------------------------------------------------------------------------


def find_sets(path: Path) -> Sets:
    """Return set -> its folders or lists of images; empty if there is no data of YOLO.

    path: a data.yaml or a folder.
    """
    file = path if path.is_file() else _yaml_file(path)
    if file is not None:
        sets = _sets_of_yaml(file)
        if sets or path.is_file():
            return sets
    if not path.is_dir():
        return {}
    images = path / "images"
    if images.is_dir():
        return _sets_in((folder.name, folder) for folder in _folders(images)) or _only_set(images)
    darknet = {
        folder.name[4:-5].lower(): [folder]
        for folder in _folders(path)
        if folder.match("obj_*_data")
    }
    if darknet:
        return {SPLITS.get(name, name): places for name, places in darknet.items()}
    # Roboflow's layout without its data.yaml
    return _sets_in((folder.name, folder / "images") for folder in _folders(path)) or _only_set(
        path
    )


def _sets_in(folders: Iterable[tuple[str, Path]]) -> Sets:
    """Return the sets of those (name, folder of images) that are named like one and have labels."""
    sets = {SPLITS[name.lower()]: [images] for name, images in folders if name.lower() in SPLITS}
    return {name: places for name, places in sets.items() if _has_labels(places[0])}


def _only_set(folder: Path) -> Sets:
    return {"": [folder]} if _has_labels(folder) else {}


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())


def choose_set(sets: Sets, split: str | None, path: Path) -> list[Path]:
    """Return the folders or lists of one set.

    split: the name of the set; default the only one, else train. path: of the data, for messages.

    Raises: ValueError if the data lacks the set.
    """
    if split is not None:
        name = SPLITS.get(split, split)
    elif len(sets) == 1:
        name = next(iter(sets))
    else:
        name = "" if "" in sets else "train"
    if name not in sets:
        raise ValueError(
            f"{path} must have images and label files of the set {split or 'train'}. Received: "
            f"{', '.join(sets) or 'no images with label files (.txt)'}. "
            "Try the folder of the images themselves."
        )
    others = [
        f"{other} in {', '.join(map(str, places))}"
        for other, places in sets.items()
        if other != name
    ]
    if others and split is None:
        logger.info("Reading the set %s of %s. There are also: %s", name, path, "; ".join(others))
    return sets[name]


def images_of(source: Path) -> list[Path]:
    """Return the images of a folder and all folders below it, or those that a list (.txt) names."""
    if source.is_dir():
        folders = sorted({source, *(entry for entry in source.rglob("*") if entry.is_dir())})
        return [image for folder in folders for image in image_files(folder)]
    found = [_locate(name, [source.parent]) for name in _lines_of(source)]
    return [image for image in found if image is not None]


# --- Label files ----------------------------------------------------------------------------------


def label_file(image: Path) -> Path:
    """Return the label file of an image.

    It is in `labels` instead of the last folder `images` of the path if it exists there, otherwise
    next to the image.
    """
    parts = image.absolute().parts
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        last = places[-1]
        file = Path(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")
        if file.is_file():
            return file
    return image.with_suffix(".txt")


def labels_folder(path: Path) -> Path:
    """Return the folder of the label files of images elsewhere: `labels`, or the folder itself."""
    folder = path.parent if path.is_file() else path
    return folder / "labels" if (folder / "labels").is_dir() else folder


def _has_labels(folder: Path) -> bool:
    """Return whether an image of a folder has a label file."""
    return any(label_file(image).is_file() for image in image_files(folder))


# --- Class names ----------------------------------------------------------------------------------


def find_names(start: Path, path: Path) -> tuple[dict[int, str] | None, bool]:
    """Return class index -> name, None if no file gives names; and whether labels have keypoints.

    The nearest data.yaml, classes.txt or obj.names counts.

    start: a data.yaml or a folder; its two parent folders and `path` are searched as well.
    """
    if path.is_file():
        return _names_of_yaml(path)
    for place in dict.fromkeys((path, start, *start.absolute().parents[:2])):
        folder = place if place.is_dir() else place.parent
        file = _yaml_file(folder)
        if file is not None:
            return _names_of_yaml(file)
        lists = [folder / "classes.txt", folder / "labels" / "classes.txt", folder / "obj.names"]
        for file in [*lists, *sorted(folder.glob("*.names"))]:
            if file.is_file():
                return dict(enumerate(_lines_of(file))), False
    return None, False


def _lines_of(file: Path) -> list[str]:
    """Return the lines of a text file, stripped, without empty ones."""
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _names_of_yaml(file: Path) -> tuple[dict[int, str], bool]:
    data = read_yaml(file)
    names = data.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    count = _text(data.get("nc"))
    if names is None and count.isdecimal() and int(count) <= MAX_CLASSES:
        names = {i: f"class {i}" for i in range(int(count))}
    if not names or not isinstance(names, dict) or not all(map(_is_name, names.items())):
        raise ValueError(
            f"names in {file} must be a list of class names, or number: name for each. "
            f"Received: {short(names)}. Try names: [cat, dog]."
        )
    return {int(key): name for key, name in names.items()}, "kpt_shape" in data


def _is_name(item: tuple[Any, Any]) -> bool:
    """Return whether (key, name) of `names` is a number and a text."""
    key, name = item
    return str(key).isdecimal() and bool(_text(name))


# --- data.yaml ------------------------------------------------------------------------------------


class _PlainLoader(yaml.BaseLoader):
    """Loads only texts, lists and dicts: a class called no, null or 1 keeps its name.

    It refuses aliases, which could grow without limit.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the content of a data.yaml, each value a text, list or dict.

    Raises: ValueError that names the file if it cannot be read or is not an object.
    """
    try:
        size = file.stat().st_size
        if size > MAX_YAML_BYTES:
            raise ValueError(f"{size:,} bytes")
        data = yaml.load(file.read_bytes(), _PlainLoader)  # noqa: S506, it makes plain values only
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file} must be YAML of at most {MAX_YAML_BYTES:,} bytes, without aliases. "
            f"Received: {short(reason, 200)}. Try to export it again."
        ) from error
    if not isinstance(data, dict):
        raise ValueError(
            f"{file} must contain names: and train:. Received: {short(data)}. "
            "Try the data.yaml of YOLO."
        )
    return data


def _yaml_file(folder: Path) -> Path | None:
    """Return the data.yaml of a folder, else its first YAML file with `names`."""
    files = sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml"))
    files.sort(key=lambda file: file.stem != "data")
    for file in files[:20]:
        if not file.is_file() or file.stat().st_size > MAX_YAML_BYTES:
            continue
        if _NAMES_KEY.search(file.read_bytes()):
            return file
    return None


def _sets_of_yaml(file: Path) -> Sets:
    """Return set -> folders or lists of images that exist."""
    data = read_yaml(file)
    root = file.parent / _text(data.get("path"))
    found: Sets = {}
    for key, name in SPLITS.items():
        values = data.get(key)
        names = [_text(value) for value in (values if isinstance(values, list) else [values])]
        places = [_locate(each, [root, file.parent]) for each in names if each]
        existing = [place for place in places if place is not None]
        if existing:
            found.setdefault(name, existing)
    return found


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _locate(name: str, roots: list[Path]) -> Path | None:
    """Return the file or folder that a text names, relative to one of the roots, else None.

    Paths of another machine, and Roboflow's `../train/images` for a folder next to data.yaml, are
    found by their last parts.
    """
    name = name.replace("\\", "/")
    parts = [part for part in Path(name).parts if part not in ("..", ".", "/")]
    candidates = [root / name for root in roots]
    shortest = min(2, len(parts))
    for start in range(len(parts) - shortest + 1):
        candidates += [root / Path(*parts[start:]) for root in roots if parts]
    return next((place for place in candidates if _exists(place)), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or with a null character
        return False
