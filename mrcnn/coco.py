"""Reader of COCO's instances files.

Every number is checked when the file is opened; pixels are touched when asked for. Whatever is wrong is a
ValueError that names the file, the entry and the remedy.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset
from .outlines import (
    RLE,
    OutlinedImages,
    check_polygon,
    check_rle,
    is_side,
    is_whole,
    read_json,
    segmentation_to_rle,
    short,
)

logger = logging.getLogger("mrcnn")


class CocoDataset(OutlinedImages, Dataset):
    """COCO instances JSON: polygons of several parts, run-length codes of both kinds, and crowds.

    Category ids may be any numbers: `map_source_class_id("coco.18")` and `get_source_class_id(id, "coco")`
    translate, and `image_info[i]["id"]` is the file's own image id.
    Crowds get a negative class id. Images without annotations are kept: they show what is not an object.
    """

    def __init__(
        self,
        json_path: str | Path,
        images_dir: str | Path | None = None,
        class_ids: Iterable[int] | None = None,
        data: dict | None = None,
    ):
        """A prepared dataset.

        json_path: the instances file. `info` and `licenses` may be missing.
        images_dir: where the images are; default beside the file, or for `instances_<subset><year>.json` the
            folder `../<subset><year>`.
        class_ids: COCO category ids to keep; default all. All images are kept in either case.
        data: the file's content where the caller has read it.
        """
        super().__init__()
        self.add_file(json_path, images_dir, class_ids, data)
        self.prepare()

    def add_file(
        self,
        json_path: str | Path,
        images_dir: str | Path | None = None,
        class_ids: Iterable[int] | None = None,
        data: dict | None = None,
    ) -> None:
        """Add the images and categories of one more file, to be prepared afterwards; arguments as of the class.

        The files of one dataset share their category ids, as those of COCO do.
        """
        path = Path(json_path)
        data = read_json(path) if data is None else data
        if not is_coco(data):
            raise ValueError(
                f"{path} must be a COCO instances file: lists named images, annotations and categories. "
                f"Received: {short(data)}. Try an instances_*.json file."
            )
        chosen = None if class_ids is None else set(class_ids)
        self._add_categories(data["categories"], chosen, path)
        annotations = self._by_image(data, path)
        images_dir = Path(images_dir) if images_dir is not None else _usual_images_dir(path, data["images"])
        missing = []
        for image in data["images"]:
            file = images_dir / image["file_name"]
            if not os.path.isfile(file):
                missing.append(file)
            self.add_image(
                "coco",
                image_id=image["id"],
                path=str(file),
                height=image.get("height"),
                width=image.get("width"),
                annotations=annotations[image["id"]],
                file=str(path),
            )
        if missing:
            logger.warning(
                "%d of %d images that %s lists are missing, %s for one. Try to put them there (in Python images_dir=).",
                len(missing), len(data["images"]), path, missing[0],
            )  # fmt: skip

    def _add_categories(self, categories: list[dict], chosen: set[int] | None, path: Path) -> None:
        names = {}
        for i, category in enumerate(categories):
            if not isinstance(category, dict) or "name" not in category or not is_whole(category.get("id")):
                raise ValueError(
                    f"A category must have a whole number as id, and a name. Received: {short(category)} in "
                    f"{path}, category {i}. Try to export the annotations again."
                )
            names[category["id"]] = str(category["name"])
        unknown = sorted((chosen or set()) - set(names))
        if unknown:
            raise ValueError(
                f"class_ids must be category ids of {path}. Received: {unknown}. Try some of {short(names, 400)}."
            )
        self._known = set(names)
        for category_id in sorted(names if chosen is None else chosen):
            self.add_class("coco", category_id, names[category_id])

    def _by_image(self, data: dict, path: Path) -> dict[Any, list[dict]]:
        """Image id -> its annotations, checked, of the chosen classes."""
        chosen = {info["id"] for info in self.class_info if info["source"] == "coco"}
        sizes = {}
        for i, image in enumerate(data["images"]):
            if not _is_image(image):
                raise ValueError(
                    f"An image must have an id, a file_name, and whole numbers as height and width. "
                    f"Received: {short(image)} in {path}, image {i}. Try to export the annotations again."
                )
            if image["id"] in sizes:
                raise ValueError(
                    f"Image ids must be unique. Received: {image['id']!r} a second time in {path}, "
                    f"image {i}. Try to renumber the images of one of the files that were merged."
                )
            sizes[image["id"]] = (image.get("height"), image.get("width"))
        found: dict[Any, list[dict]] = {image_id: [] for image_id in sizes}
        for i, annotation in enumerate(data["annotations"]):
            annotation_id = annotation.get("id", i) if isinstance(annotation, dict) else i
            where = f"{path}, annotation {annotation_id}"
            _check_annotation(annotation, sizes, self._known, where)
            if annotation["category_id"] in chosen:
                found[annotation["image_id"]].append(annotation)
        return found

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per annotation, in the file's order, and class ids, int32 [N], negative for crowds."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles, ids = [], []
        for annotation in info["annotations"]:
            where = f"{info['file']}, annotation {annotation.get('id')}"
            rles.append(segmentation_to_rle(annotation["segmentation"], size, where))
            class_id = self.map_source_class_id(f"coco.{annotation['category_id']}")
            ids.append(-class_id if annotation.get("iscrowd") else class_id)
        return rles, np.array(ids, np.int32)


def is_coco(data: Any) -> bool:
    """Whether the content of a JSON file looks like COCO's instances."""
    return isinstance(data, dict) and all(
        isinstance(data.get(key), list) for key in ("images", "annotations", "categories")
    )


def _is_among(value: Any, known: Iterable[Any]) -> bool:
    return isinstance(value, int | str) and value in known


def _is_image(image: Any) -> bool:
    """Whether an entry of "images" can be used; height and width may be missing."""
    return (
        isinstance(image, dict)
        and isinstance(image.get("file_name"), str)
        and isinstance(image.get("id"), int | str)
        and all(is_side(image.get(key)) for key in ("height", "width"))
    )


def _check_annotation(annotation: Any, sizes: dict, categories: set[int], where: str) -> None:
    """Raise a ValueError for an annotation that cannot be drawn; looks at its numbers only."""
    if not isinstance(annotation, dict) or not _is_among(annotation.get("image_id"), sizes):
        raise ValueError(
            f"An annotation must belong to an image of the file. Received: {short(annotation)} as {where}. "
            "Try to remove the annotation, or to add the image."
        )
    if not _is_among(annotation.get("category_id"), categories):
        raise ValueError(
            f"A category_id must be among the file's categories. Received: "
            f"{short(annotation.get('category_id'))} in {where}. "
            "Try to add the category, or to remove the annotation."
        )
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            check_polygon(polygon, where)
    elif isinstance(segmentation, dict):
        check_rle(segmentation, sizes[annotation["image_id"]], where)
    else:
        raise ValueError(
            f"An annotation must have a segmentation: polygons or a run-length code. Received: "
            f"{short(segmentation)} in {where}. Try to annotate the object's outline, or remove the entry."
        )


def _usual_images_dir(path: Path, images: list[dict]) -> Path:
    """The first of the usual places that holds the first image of the file; else the most likely of them."""
    subset = re.fullmatch(r"instances_(.+)", path.stem)
    beside = [path.parent, path.parent / "images"]
    usual = [path.parent.parent / subset[1], path.parent / subset[1], *beside] if subset else beside
    return next((p for p in usual if images and os.path.isfile(p / images[0]["file_name"])), usual[0])
