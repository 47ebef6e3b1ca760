"""Reader of COCO's instances files, as other tools write them too.

Every number is checked when the file is opened; pixels are touched when asked for. An entry that cannot be used is
left out, and a warning counts them; a file of another form is a ValueError that names file, entry and remedy.
"""

from __future__ import annotations

import logging
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..data.dataset import Dataset, match_class_names, overrides
from ..files.limits import check_size
from ..files.safe_text import clean_name
from .common import LeftOut, RLEImages, read_json, warn_similar_names
from .polygons import check_polygon, segmentation_to_rle
from .rle import RLE, check_rle, mask_to_rle
from .values import is_finite, is_side, short, whole

logger = logging.getLogger("mrcnn")

IMAGES_TRIED = 20  # of a file, to find the folder of its images
MOST_FOLDERS = 10  # of a file_name that are tried; longer paths lose their first folders


class CocoDataset(RLEImages, Dataset):
    """COCO instances JSON: polygons of several parts, run-length codes of both kinds, and crowds.

    Category ids may be any numbers: `map_source_class_id("coco.18")` and `get_source_class_id(id, "coco")`
    translate, and `image_info[i]["id"]` is the file's own image id. Categories of one name are one class.
    Crowds get a negative class id. Images without annotations are kept: they show what is not an object.

    Annotations with a `bbox` and no segmentation have no mask: they are objects of `load_bbox` only, for networks
    without masks (USE_MASK = False).
    """

    # A subclass may call Dataset.__init__ and `add_file` alone, as samples/coco does.
    _wanted: list[str] | None = None  # names of the classes
    _same_class: Mapping[int, int] = {}  # category id -> the one under which its class was added
    _has_class: frozenset[int] = frozenset()  # category ids
    _with_mask = _with_box = 0  # annotations with a segmentation, and those with a bbox only

    def __init__(
        self,
        json_path: str | Path,
        images_dir: str | Path | None = None,
        class_ids: Iterable[int] | None = None,
        data: dict | None = None,
        class_names: Sequence[str] | None = None,
        strict: bool = False,
    ):
        """A prepared dataset.

        json_path: the instances file. `info` and `licenses` may be missing.
        images_dir: where the images are; default the one of the usual places that holds them, such as the file's own
            folder, `images` or `images/<subset>` there or a folder above, or `<subset>` for `instances_<subset>.json`.
        class_ids: COCO category ids to keep; default all. All images are kept in either case.
        data: the file's content if the caller has read it.
        class_names: all classes, in the order of their ids, whatever the file's numbers; annotations of others are
            left out. Default: the categories of the file in the order of their ids.
        strict: refuse a file with an entry that cannot be used. Default: leave it out, with a warning.
        """
        super().__init__()
        if class_names is not None:
            self._wanted = [clean_name(name) for name in class_names]
        self.add_file(json_path, images_dir, class_ids, data, strict)
        self.prepare()

    def add_file(
        self,
        json_path: str | Path,
        images_dir: str | Path | None = None,
        class_ids: Iterable[int] | None = None,
        data: dict | None = None,
        strict: bool = False,
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
        out = LeftOut(path, strict)
        categories = _categories(data["categories"], path, out)
        self._finish(out, len(data["categories"]), "categories")
        chosen = self._add_categories(categories, class_ids, path)

        out = LeftOut(path, strict)
        images = _images(data["images"], path, out)
        _find_files(images, path, images_dir, out)
        self._finish(out, len(data["images"]), "images")

        out = LeftOut(path, strict)
        self._add_annotations(data["annotations"], images, categories, chosen, path, out)
        self._finish(out, len(data["annotations"]), "annotations")
        for image in images.values():
            if image:
                self.add_image("coco", **image, file=str(path))

    def _finish(self, out: LeftOut, total: int, what: str) -> None:
        out.warn(total, what)
        self.left_out += out.sentences

    def prepare(self, class_map=None) -> None:
        """Number classes and images; categories of one name share their class."""
        super().prepare(class_map)
        for category_id, other in self._same_class.items():
            self.class_from_source_map[f"coco.{category_id}"] = self.class_from_source_map[
                f"coco.{other}"
            ]

    @property
    def boxes_only(self) -> bool:
        """Whether there are objects, and not one has a segmentation."""
        return self._with_box > 0 and self._with_mask == 0

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per annotation with a segmentation, in the file's order, and class ids, int32 [N].

        Class ids are negative for crowds.

        Raises: ValueError if no annotation of the dataset has a segmentation.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        entries = [entry for entry in info["annotations"] if _has_mask(entry)]
        if not entries and info["annotations"] and self.boxes_only:
            raise ValueError(
                f"Masks need annotations with a segmentation. Received: {info['file']}, whose annotations are boxes "
                "only. Try a network without masks (--config USE_MASK=False), or annotate the outlines of the objects."
            )
        rles = [
            segmentation_to_rle(
                entry["segmentation"], size, f"{info['file']}, annotation {entry.get('id')}"
            )
            for entry in entries
        ]
        return rles, self._class_ids(entries)

    def annotated_boxes(self, image_id: int) -> list[dict]:
        """The file's own `bbox` [x, y, width, height] and `area`, if they are there, of each mask of `load_mask`."""
        shapes = []
        for entry in self.image_info[image_id]["annotations"]:
            if _has_mask(entry):
                shape = (
                    {"bbox": [float(side) for side in entry["bbox"]]}
                    if _is_box(entry.get("bbox"))
                    else {}
                )
                if is_finite(entry.get("area")) and entry["area"] > 0:
                    shape["area"] = entry["area"]
                shapes.append(shape)
        return shapes

    def load_class_ids(self, image_id: int) -> np.ndarray:
        """Class ids, int32 [N], negative for crowds, in the file's order, of boxes without a mask too."""
        return self._class_ids(self.image_info[image_id]["annotations"])

    def _load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """`load_bbox` of a dataset with annotations that have no mask: their `bbox`, and of the others the mask's."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        boxes = []
        for entry in info["annotations"]:
            if _has_mask(entry):
                rle = segmentation_to_rle(
                    entry["segmentation"], size, f"{info['file']}, annotation {entry.get('id')}"
                )
                x, y, width, height = coco_mask.toBbox(rle) if coco_mask.area(rle) else [0] * 4
            else:
                x, y, width, height = entry["bbox"]
            boxes.append([y, x, y + height, x + width])
        boxes = np.clip(np.array(boxes, float).reshape(-1, 4), 0, [*size, *size])
        return boxes, self._class_ids(info["annotations"])

    def _class_ids(self, entries: list[dict]) -> np.ndarray:
        ids = []
        for entry in entries:
            class_id = self.map_source_class_id(f"coco.{whole(entry['category_id'])}")
            ids.append(-class_id if entry.get("iscrowd") else class_id)
        return np.array(ids, np.int32)

    def _add_categories(
        self, categories: dict[int, str], class_ids: Iterable[int] | None, path: Path
    ) -> set[int]:
        """Add the classes; returns the category ids to keep."""
        chosen = set(categories) if class_ids is None else set(class_ids)
        unknown = sorted(chosen - set(categories))
        if unknown:
            raise ValueError(
                f"class_ids must be category ids of {path}. Received: {unknown}. Try some of {short(categories, 400)}."
            )
        ids_of_name: dict[str, list[int]] = {}
        for category_id in sorted(chosen):
            ids_of_name.setdefault(categories[category_id], []).append(category_id)
        warn_similar_names(ids_of_name, path)
        for name, ids in ids_of_name.items():
            if len(ids) > 1:
                logger.warning(
                    "The categories %s in %s are all called %s: they are one class.",
                    ids,
                    path,
                    name,
                )
        if self._wanted is None:
            ids_of_class = ids_of_name
        else:
            places = match_class_names(list(ids_of_name), self._wanted)
            ids_of_class = {name: [] for name in self._wanted}
            for name, place in places.items():
                ids_of_class[self._wanted[place]] += ids_of_name[name]
        unused = max([0, *categories]) + 1
        for name, ids in ids_of_class.items():
            if not ids:  # a class that this file lacks: an id that no category has
                ids, unused = [unused], unused + 1
            self.add_class("coco", ids[0], name)
            self._same_class = {**self._same_class, **dict.fromkeys(ids[1:], ids[0])}
            self._has_class |= set(ids)
        return chosen

    def _add_annotations(
        self,
        annotations: list,
        images: dict[str, dict | None],
        categories: dict[int, str],
        chosen: set[int],
        path: Path,
        out: LeftOut,
    ) -> None:
        """Give each image its annotations of the chosen classes, checked."""
        masks, boxes, strangers = 0, 0, []
        for i, annotation in enumerate(annotations):
            annotation_id = annotation.get("id", i) if isinstance(annotation, dict) else i
            where = f"{path}, annotation {short(annotation_id)}"
            try:
                image, category_id = _check_links(annotation, images, categories, where)
                if image is None or category_id not in chosen:
                    continue
                if category_id not in self._has_class:
                    strangers.append(category_id)
                    raise ValueError(
                        f"Every class must be among {short(self._wanted, 300)}. Received: "
                        f"{short(categories[category_id])} in {where}. Try to correct the name, or remove the "
                        "annotation."
                    )
                entry = _checked(annotation, (image["height"], image["width"]), where, out)
            except ValueError as error:
                out.add(error)
                continue
            masks += _has_mask(entry)
            if not _has_mask(entry):
                boxes += 1
                name = short(os.path.basename(str(image["path"])))
                self.without_mask.append(
                    f"An annotation must have a segmentation for a network with masks to learn it. Received: a bbox "
                    f"alone in {where}, image {name}. Try to draw its outline, or --config USE_MASK=False."
                )
            image["annotations"].append(entry)
        self._with_mask += masks
        self._with_box += boxes
        if strangers and not masks + boxes:
            names = sorted({categories[category_id] for category_id in strangers})
            raise ValueError(
                f"The classes of {path} must be {short(self._wanted, 300)}. Received: {short(names, 300)}. "
                "Try data annotated with those classes."
            )
        if boxes and not overrides(self, "load_bbox"):
            self.load_bbox = self._load_bbox  # else boxes are those of the masks, as everywhere
        if boxes and masks:
            logger.warning(
                "%d of %d annotations in %s have a bbox and no segmentation: a network with masks does not learn them, "
                "one without (--config USE_MASK=False) does.",
                boxes, boxes + masks, path,
            )  # fmt: skip


def is_coco(data: Any) -> bool:
    """Whether the content of a JSON file looks like COCO's instances."""
    return isinstance(data, dict) and all(
        isinstance(data.get(key), list) for key in ("images", "annotations", "categories")
    )


# --- Entries of the file ------------------------------------------------------------------------------------


def _key(value: Any) -> str | None:
    """An image id as a key: 7, 7.0 and "7" are the same. None for what is no id."""
    number = whole(value)
    if number is not None:
        return str(number)
    return value if isinstance(value, str) else None


def _categories(entries: list, path: Path, out: LeftOut) -> dict[int, str]:
    """Category id -> name, of the entries that can be used."""
    names: dict[int, str] = {}
    for i, entry in enumerate(entries):
        category_id = whole(entry.get("id")) if isinstance(entry, dict) else None
        if category_id is None or "name" not in entry:
            out.add(
                ValueError(
                    f"A category must have a whole number as id, and a name. Received: {short(entry)} in {path}, "
                    f"category {i}. Try to export the annotations again."
                )
            )
        elif category_id in names:
            out.add(
                ValueError(
                    f"Category ids must be unique. Received: {category_id} a second time in {path}, category {i}, "
                    f"{short(entry['name'])}. Try to renumber the categories."
                )
            )
        else:
            names[category_id] = clean_name(entry["name"])
    if entries and not names:
        raise ValueError(out.sentences[0])
    return names


def _images(entries: list, path: Path, out: LeftOut) -> dict[str, dict | None]:
    """Key of the image id -> what `add_image` takes, `path` as the file says it; None for one that is left out."""
    images: dict[str, dict | None] = {}
    for i, entry in enumerate(entries):
        where = f"{path}, image {i}"
        try:
            image = _image(entry, where)
        except ValueError as error:
            out.add(error)
            key = _key(entry.get("id")) if isinstance(entry, dict) else None
            if key is not None:
                images.setdefault(key, None)
            continue
        key = _key(entry["id"])
        if images.get(key) is None:
            images[key] = image
            continue
        error = ValueError(
            f"Image ids must be unique. Received: {entry['id']!r} a second time in {where}. "
            "Try to renumber the images of one of the files that were merged."
        )
        if image["path"] != images[key]["path"]:  # whose the annotations are cannot be told
            raise error
        out.add(error)
    if entries and not any(images.values()):
        raise ValueError(out.sentences[0])
    return images


def _image(entry: Any, where: str) -> dict:
    """What `add_image` takes, from an entry of "images"."""
    if (
        not isinstance(entry, dict)
        or not (isinstance(entry.get("file_name"), str) and entry["file_name"])
        or _key(entry.get("id")) is None
        or not all(is_side(entry.get(side) or None) for side in ("height", "width"))
    ):
        raise ValueError(
            f"An image must have an id, a file_name, and whole numbers as height and width. "
            f"Received: {short(entry)} in {where}. Try to export the annotations again."
        )
    height, width = (
        whole(entry.get(side) or None) for side in ("height", "width")
    )  # some tools write 0 for unknown
    if height and width:
        check_size(height, width, where)
    number = whole(entry["id"])
    return {
        "image_id": entry["id"] if number is None else number,
        "path": entry["file_name"],
        "height": height,
        "width": width,
        "annotations": [],
    }


def _check_links(
    annotation: Any, images: dict, categories: dict, where: str
) -> tuple[dict | None, int]:
    """The image of an annotation, None for one that is left out, and its category id."""
    key = _key(annotation.get("image_id")) if isinstance(annotation, dict) else None
    if key not in images:
        raise ValueError(
            f"An annotation must belong to an image of the file. Received: {short(annotation)} as {where}. "
            "Try to remove the annotation, or to add the image."
        )
    category_id = whole(annotation.get("category_id"))
    if category_id not in categories:
        raise ValueError(
            f"A category_id must be among the file's categories. Received: "
            f"{short(annotation.get('category_id'))} in {where}. "
            "Try to add the category, or to remove the annotation."
        )
    return images[key], category_id


def _checked(
    annotation: dict, size: tuple[int | None, int | None], where: str, out: LeftOut
) -> dict:
    """An annotation with the parts of its segmentation that can be drawn, or with none and a `bbox`.

    size: (height, width) of its image, None if the file does not tell.

    Raises: ValueError if it has neither.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        check_rle(segmentation, size, where)
        return annotation
    good, errors = [], []
    for part in segmentation if isinstance(segmentation, list) else ():
        try:
            if part != []:
                check_polygon(part, where)
                good.append(part)
        except ValueError as error:
            errors.append(error)
    if good:
        for error in errors:
            out.add(error)
        return (
            annotation if len(good) == len(segmentation) else {**annotation, "segmentation": good}
        )
    if errors:
        raise errors[0]
    if not _is_box(annotation.get("bbox")):
        raise ValueError(
            f"An annotation must have a segmentation (polygons or a run-length code), or a bbox [x, y, width, height]. "
            f"Received: {short(segmentation)} and {short(annotation.get('bbox'))} in {where}. "
            "Try to annotate the object's outline, or remove the entry."
        )
    return {**annotation, "segmentation": []}


def _has_mask(entry: dict) -> bool:
    return bool(entry.get("segmentation"))


def _is_box(value: Any) -> bool:
    """Whether a value is [x, y, width, height] of a box with an area."""
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(map(is_finite, value))
        and min(value[2:]) > 0
    )


# --- Files of the images ------------------------------------------------------------------------------------


def _find_files(
    images: dict[str, dict | None], path: Path, images_dir: str | Path | None, out: LeftOut
) -> None:
    """Fill in the path of each image; one whose file is missing is left out, unless all are."""
    names = {key: image["path"] for key, image in images.items() if image}
    folders = _usual_folders(path) if images_dir is None else [Path(images_dir)]
    tried = list(names.values())[:: max(1, len(names) // IMAGES_TRIED)]
    # The first of those with the most images
    folder = max(folders, key=lambda f: len(_Files(f).find(dict(enumerate(tried)))))
    files = _Files(folder)
    found = files.find(names)
    renamed = [key for key in found if found[key] != folder / names[key].replace("\\", "/")]
    if renamed:
        logger.warning(
            "%d of %d images that %s lists were found by the end of their path or in other case only: %s as %s, for "
            "one.",
            len(renamed), len(names), path, short(names[renamed[0]]), found[renamed[0]],
        )  # fmt: skip
    outside = [key for key in found if ".." in found[key].relative_to(folder).parts]
    if outside:
        logger.warning(
            "%d of %d images that %s lists lie outside of %s and are read there: %s, for one.",
            len(outside), len(names), path, folder, found[outside[0]],
        )  # fmt: skip
    for key, name in names.items():
        images[key]["path"] = str(found.get(key) or folder.joinpath(*_parts(name)))
        if key in found and not (out.strict and key in outside):
            continue
        error = ValueError(
            f"A listed image must exist. Received: {short(name)} in {path}, which is not in {folder}. Try to put it "
            "there, or to name the folder of the images: --images DIR (in Python images_dir=)."
        )
        if found or out.strict:
            out.add(error)
            images[key] = None
    if names and not found:  # the annotations can still be looked at
        logger.warning(
            "%d of %d images that %s lists are missing, %s for one. Try to put them there, or to name their folder: "
            "--images DIR (in Python images_dir=).",
            len(names), len(names), path, next(image["path"] for image in images.values() if image),
        )  # fmt: skip


def _usual_folders(path: Path) -> list[Path]:
    """Where tools put the images of an annotation file; the most usual first.

    COCO: annotations/instances_val2017.json and val2017/. CVAT, Datumaro, ultralytics: annotations/instances_val.json
    and images/ or images/val/. mmdetection: annotations/val.json and val/. Roboflow: valid/_annotations.coco.json
    beside the images. Label Studio: result.json and images/.
    """
    subset = re.sub("^instances_", "", path.stem)
    here, above = path.parent, path.parent.parent
    if not path.stem.startswith("instances_") and not re.search(
        "annot|label", here.name, re.IGNORECASE
    ):
        return [here, here / "images", here / subset, here / "images" / subset]
    places = [above / subset, here / subset, here, here / "images"]
    places += [above / "images" / subset, here / "images" / subset, above / "images", above]
    return places if path.stem.startswith("instances_") else [here, *places]


def _parts(name: str) -> list[str]:
    """The folders and the name of a file_name, of Windows, a URL or another machine too, without any `..` or root."""
    if re.match(r"[a-z]+://", name, re.IGNORECASE):
        name = urllib.parse.unquote(name.split("?")[0].split("//", 1)[1])
    parts = [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return [part for part in parts[-MOST_FOLDERS:] if not part.endswith(":")]  # C:


class _Files:
    """Finds the files that an annotation file names, in one folder and below it.

    A relative name with `..` is followed out of the folder, as tools write it (`mrcnn detect --format coco` does);
    absolute names are not.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._listed: dict[Path, dict[str, str]] = {}  # folder -> name in lower case -> name

    def find(self, names: dict) -> dict:
        """Key -> path, of those that are there; no file is found for two keys unless both name it in full.

        A file is looked for as it is named, then without its first folders, then in other case.
        """
        found = {}
        for key, name in names.items():
            file = self._as_named(name)
            if file is not None:
                found[key] = file
        taken = set(found.values())
        for key, name in names.items():
            file = None if key in found else self._by_end(_parts(name))
            if file is not None and file not in taken:
                found[key] = file
                taken.add(file)
        return found

    def _as_named(self, name: str) -> Path | None:
        relative = re.match(r"\.\.[\\/]", name)
        file = (
            self.folder / name.replace("\\", "/")
            if relative
            else self.folder.joinpath(*_parts(name))
        )
        return file if os.path.isfile(file) else None

    def _by_end(self, parts: list[str]) -> Path | None:
        ends = [parts[i:] for i in range(len(parts))]
        files = [self.folder.joinpath(*end) for end in ends]
        files += [folder / name for folder, name in map(self._in_any_case, files) if name]
        return next((file for file in files if os.path.isfile(file)), None)

    def _in_any_case(self, file: Path) -> tuple[Path, str | None]:
        folder = file.parent
        if folder not in self._listed:
            names = os.listdir(folder) if os.path.isdir(folder) else []
            self._listed[folder] = {name.lower(): name for name in names}
        return folder, self._listed[folder].get(file.name.lower())


def coco_results(
    image_id: int, result: dict[str, np.ndarray], category_ids: dict[int, int] | None = None
) -> list[dict]:
    """The detections of one image as COCO result entries, ready for JSON.

    image_id: the id that the truth uses for this image.
    result: what `MaskRCNN.detect` returns for one image: rois [N, (y1, x1, y2, x2)] pixels, class_ids [N],
        scores [N], and, unless the model is box-only, masks [H, W, N] or a list of N run-length codes.
    category_ids: class id -> category id of the truth; default the class ids themselves.

    Returns: a list of N dicts: image_id, category_id, bbox [x, y, width, height], score, and segmentation
        (RLE) where the result has masks.
    """
    check_result(result)
    entries = []
    for i, class_id in enumerate(result["class_ids"]):
        y1, x1, y2, x2 = (float(side) for side in result["rois"][i])
        entry = {
            "image_id": image_id,
            "category_id": int(class_id) if category_ids is None else category_ids[int(class_id)],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(result["scores"][i]),
        }
        if "masks" in result:
            masks = result["masks"]
            entry["segmentation"] = (
                masks[i] if isinstance(masks, list) else mask_to_rle(masks[:, :, i])
            )
        entries.append(entry)
    return entries


def check_result(result: dict[str, np.ndarray]) -> None:
    """Raise unless the arrays of a result tell of the same number of detections."""
    missing = [key for key in ("rois", "class_ids", "scores") if key not in result]
    if missing:
        raise ValueError(
            f"A result must hold rois, class_ids and scores. Received: one without {', '.join(missing)}. Try "
            "proposal_recall for a network that proposes alone (RPN_ONLY), else the dict that detect() returns."
        )
    lengths = {key: len(result[key]) for key in ("rois", "class_ids", "scores")}
    if "masks" in result:
        masks = result["masks"]
        lengths["masks"] = len(masks) if isinstance(masks, list) else np.shape(masks)[-1]
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"A result must hold one row per detection in every array. Received: {lengths}. "
            "Try the dict that detect() returns, unchanged."
        )


def entry_area(entry: dict) -> float:
    """The area of a COCO result entry: its mask's, without one its box's."""
    if "segmentation" in entry:
        return int(coco_mask.area(entry["segmentation"]))
    return entry["bbox"][2] * entry["bbox"][3]
