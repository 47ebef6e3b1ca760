"""Files of a split: split.json, lists of images, and annotation files that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from ..data.dataset import Dataset
from ..data.split import Split, divide
from ..files.atomic import atomic_write
from .coco import CocoDataset
from .reading import read_json
from .via import VIADataset
from .voc import VOCDataset
from .writing import write_json
from .yolo import YOLODataset
from .yolo_layout import find_names

Parts = dict[str, Dataset]  # train and val

FILE = "split.json"
PROJECT = "_via_img_metadata"  # the key of the entries in a project of VIA


def write_split(folder: Path, split: Split, **record: Any) -> Path:
    """Write split.json and return its path. record: how it was drawn, for people."""
    content = {**record, "groups": split.groups, "train": split.train, "val": split.val}
    write_json(folder / FILE, content)
    return folder / FILE


def read_split(path: Path) -> Split:
    """Read the split of a split.json, or of the folder that contains it.

    Raises: ValueError that names the file if it is missing or is no such file.
    """
    content = read_record(path)
    return Split(content["train"], content["val"], content.get("groups"))


def read_record(path: Path) -> dict[str, Any]:
    """Read a split.json as `read_split` does: its lists, and the record of how it was drawn."""
    file = path / FILE if path.is_dir() else path
    content = read_json(file)
    if not isinstance(content, dict) or not (
        _is_list_of_names(content.get("train")) and _is_list_of_names(content.get("val"))
    ):
        raise ValueError(
            f"A split must be an object with the lists train and val of image names. "
            f"Received: {file}. Try a file that `mrcnn split` wrote."
        )
    return content


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def write_lists(folder: Path, data: Path, dataset: Dataset, split: Split) -> list[Path]:
    """Write the images of each part for other tools; return the files.

    train.txt and val.txt contain the paths of the images. COCO and VIA get an annotation file for
    each part, YOLO a data.yaml, VOC the lists ImageSets/Main.

    data: the path that was read.
    """
    train, val = divide(dataset, split)
    parts: Parts = {"train": train, "val": val}
    written = []
    for name, part in parts.items():
        paths = [str(Path(info["path"]).absolute()) for info in part.image_info if info["path"]]
        written.append(_write_lines(folder / f"{name}.txt", paths))
    for reader, write in _NATIVE.items():
        if isinstance(dataset, reader):
            written += write(folder, data, parts)
    return written


def _write_lines(path: Path, lines: Collection[str]) -> Path:
    with atomic_write(path) as part:
        Path(part).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _write_coco(folder: Path, data: Path, parts: Parts) -> list[Path]:
    """instances_train.json and instances_val.json: the file, with the images of one part."""
    written = []
    for name, part in parts.items():
        content = read_json(Path(part.image_info[0]["file"]))
        ids = {info["id"] for info in part.image_info}
        images = [image for image in content["images"] if image.get("id") in ids]
        annotations = [each for each in content["annotations"] if each.get("image_id") in ids]
        written.append(folder / f"instances_{name}.json")
        write_json(written[-1], {**content, "images": images, "annotations": annotations})
    return written


def _write_via(folder: Path, data: Path, parts: Parts) -> list[Path]:
    """via_train.json and via_val.json: the entries of one part."""
    written = []
    for name, part in parts.items():
        content = read_json(Path(part.image_info[0]["file"]))
        keys = {info["id"] for info in part.image_info}
        entries = content.get(PROJECT, content)
        entries = {key: entry for key, entry in entries.items() if key in keys}
        written.append(folder / f"via_{name}.json")
        write_json(written[-1], {**content, PROJECT: entries} if PROJECT in content else entries)
    return written


def _write_yolo(folder: Path, data: Path, parts: Parts) -> list[Path]:
    """data.yaml, whose sets are the lists of images."""
    start = Path(parts["train"].image_info[0]["path"]).parent
    names, _ = find_names(start, data)
    names = names or dict(enumerate(parts["train"].class_names[1:]))
    content = {
        "train": str((folder / "train.txt").absolute()),
        "val": str((folder / "val.txt").absolute()),
        "names": names,
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return [_write_lines(folder / "data.yaml", text.splitlines())]


def _write_voc(folder: Path, data: Path, parts: Parts) -> list[Path]:
    """ImageSets/Main/train.txt and val.txt: the ids of the images."""
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    return [
        _write_lines(lists / f"{name}.txt", [info["id"] for info in part.image_info])
        for name, part in parts.items()
    ]


_NATIVE: dict[type[Dataset], Callable[[Path, Path, Parts], list[Path]]] = {
    CocoDataset: _write_coco,
    VIADataset: _write_via,
    YOLODataset: _write_yolo,
    VOCDataset: _write_voc,
}
