"""The number of objects of each class in a dataset, as far as it is known without pixels."""

from __future__ import annotations

from pathlib import Path

from ..data.dataset import Dataset
from .reading import image_files


def objects_per_class(dataset: Dataset) -> dict[str, int] | None:
    """Class name -> number of objects without crowds; None if only the masks' pixels show it."""
    counts = dict.fromkeys(dataset.class_names[1:], 0)
    for info in dataset.image_info:
        class_ids = _class_ids(info)
        if class_ids is None:
            return None
        for class_id in class_ids:
            internal = dataset.map_source_class_id(f"{info['source']}.{class_id}")
            counts[dataset.class_names[internal]] += 1
    return counts


def _class_ids(info: dict) -> list | None:
    """The source class ids of one image's objects; None if its entry does not list them."""
    if "class_ids" in info:
        return info["class_ids"]
    if "annotations" in info:
        return [entry["category_id"] for entry in info["annotations"] if not entry.get("iscrowd")]
    if "masks" in info:  # a folder with one file per object
        return [1] * len(image_files(Path(info["masks"])))
    return None
