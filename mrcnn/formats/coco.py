"""COCO's instances files, as other tools write them too: reader and writer; COCO result entries.

The reader checks every number when it opens the file and reads pixels on demand. It skips entries
that cannot be used and logs one warning with their number; a file of another form is a ValueError
that names file, entry and remedy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import match_class_names, overrides
from ..data.keypoints import Skeleton
from ..files.limits import check_size
from ..files.safe_text import clean_name
from .coco_keypoints import (
    category_keypoints,
    detected_keypoints,
    read_keypoints,
    read_skeleton,
)
from .find_images import ImageSearch, images_folder, path_parts
from .polygons import check_polygon, join_rings, segmentation_to_rle, trace_mask
from .reading import RLEImages, SkippedEntries, read_json, warn_similar_names
from .rle import RLE, area, bounding_box, check_rle, mask_plane, mask_to_rle
from .values import is_finite, is_side, short, to_integer
from .writing import Result, Writer, relative_path, write_json

logger = logging.getLogger("mrcnn")

Images = dict[str, dict | None]  # key of the image id -> arguments of `add_image`; None if skipped


class CocoDataset(RLEImages):
    """COCO instances JSON: polygons of several parts, RLEs of both kinds, and crowds.

    Category ids may be any numbers: `map_source_class_id("coco.18")` and
    `get_source_class_id(id, "coco")` translate, and `image_info[i]["id"]` is the file's image id.
    Categories of one name are one class. Crowds get a negative class id. Images without annotations
    are kept: they show the background.

    Annotations with a `bbox` and no segmentation have no mask: they are objects of `load_bbox`
    only, for networks without masks (USE_MASK = False).

    Keypoints are read for networks with NUM_KEYPOINTS, one row for each annotation; an annotation
    without keypoints has unlabelled ones.
    """

    _without_keypoints = (
        "whose categories have no `keypoints`, or different ones. Try a file like COCO's "
        "person_keypoints_val2017.json, or NUM_KEYPOINTS=0."
    )
    # On the class, for samples/coco calls only Dataset.__init__ and `add_file`.
    _wanted: list[str] | None = None  # names of the classes
    _same_class: Mapping[int, int] = {}  # category id -> the one under which its class was added
    _has_class: frozenset[int] = frozenset()  # category ids
    _with_mask = 0  # annotations with a segmentation
    _with_box = 0  # annotations with only a bbox

    def __init__(
        self,
        json_path: str | Path,
        images_dir: str | Path | None = None,
        class_ids: Iterable[int] | None = None,
        data: dict | None = None,
        class_names: Sequence[str] | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset.

        json_path: the instances file. `info` and `licenses` may be missing.
        images_dir: the folder of the images. Default: the usual folder that contains most of them,
            for example the file's own folder, `images` or `images/<subset>` there or one folder
            up, or `<subset>` for `instances_<subset>.json`.
        class_ids: COCO category ids to keep; default all. All images are kept in either case.
        data: the content of the file, if it has been read.
        class_names: all classes, in the order of their ids, whatever the file's numbers;
            annotations of others are skipped. Default: the file's categories, sorted by id.
        strict: raise a ValueError at the first entry that cannot be used, instead of skipping it.
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
        """Add the images and categories of one more file; arguments as of the class.

        The files of one dataset share their category ids, as those of COCO do. Call `prepare`
        afterwards.
        """
        path = Path(json_path)
        content = read_json(path) if data is None else data
        if not is_coco(content):
            raise ValueError(
                f"{path} must be a COCO instances file: lists named images, annotations and "
                f"categories. Received: {short(content)}. Try an instances_*.json file."
            )
        skipped = SkippedEntries(path, strict)
        categories = _read_categories(content["categories"], path, skipped)
        self._report(skipped, len(content["categories"]), "categories")
        chosen = self._add_categories(categories, class_ids, path)

        self._add_skeleton(
            read_skeleton(content["categories"], content["annotations"], chosen, path), path
        )

        skipped = SkippedEntries(path, strict)
        images = _read_images(content["images"], path, skipped)
        _find_files(images, path, images_dir, skipped)
        self._report(skipped, len(content["images"]), "images")

        skipped = SkippedEntries(path, strict)
        self._add_annotations(content["annotations"], images, categories, chosen, path, skipped)
        self._report(skipped, len(content["annotations"]), "annotations")
        for image in images.values():
            if image:
                self.add_image("coco", **image, file=str(path))

    def _add_skeleton(self, skeleton: Skeleton | None, path: Path) -> None:
        """Have the keypoints of a file; none if an earlier file has others."""
        if skeleton is None:
            return
        if self.keypoint_names and self.keypoint_names != skeleton.names:
            logger.warning(
                "%s has other keypoints than the files before it: none are read. "
                "Try a dataset for each file.",
                path,
            )
            self.keypoint_names, self.keypoint_skeleton = (), ()
            del self.load_keypoints
            return
        self.keypoint_names, self.keypoint_skeleton = skeleton
        self.load_keypoints = self._load_keypoints

    def _load_keypoints(self, image_id: int) -> np.ndarray:
        """Serve as `load_keypoints` if the file has keypoints.

        `[N, K, (y, x, visibility)]`, in the order of the file.
        """
        info = self.image_info[image_id]
        entries = info["annotations"]
        if not overrides(self, "load_bbox"):
            entries = [entry for entry in entries if _has_mask(entry)]
        count = len(self.keypoint_names)
        keypoints = np.zeros((len(entries), count, 3), np.float32)
        for i, entry in enumerate(entries):
            where = f"{info['file']}, annotation {entry.get('id')}"
            keypoints[i] = read_keypoints(entry, count, where)
        return keypoints

    def _report(self, skipped: SkippedEntries, total: int, what: str) -> None:
        skipped.warn(total, what)
        self.left_out += skipped.reasons

    def prepare(self, class_map: object = None) -> None:
        """Number classes and images; categories of one name share their class."""
        super().prepare(class_map)
        for category_id, other in self._same_class.items():
            class_id = self.class_from_source_map[f"coco.{other}"]
            self.class_from_source_map[f"coco.{category_id}"] = class_id

    @property
    def boxes_only(self) -> bool:
        """Whether there are objects, and not one has a segmentation."""
        return self._with_box > 0 and self._with_mask == 0

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return the RLE of each annotation with a segmentation, in the order of the file.

        Returns: N RLEs; class ids, int32 `[N]`, negative for crowds.
        Raises: ValueError if no annotation of the dataset has a segmentation.
        """
        info = self.image_info[image_id]
        entries = [entry for entry in info["annotations"] if _has_mask(entry)]
        if not entries and info["annotations"] and self.boxes_only:
            raise ValueError(
                f"Masks need annotations with a segmentation. Received: {info['file']}, whose "
                "annotations are boxes only. Try a network without masks "
                "(--config USE_MASK=False), or annotate the outlines of the objects."
            )
        return [self._rle(entry, image_id) for entry in entries], self._class_ids(entries)

    def _rle(self, entry: dict, image_id: int) -> RLE:
        where = f"{self.image_info[image_id]['file']}, annotation {entry.get('id')}"
        return segmentation_to_rle(entry["segmentation"], self.image_size(image_id), where)

    def annotated_boxes(self, image_id: int) -> list[dict]:
        """Return the file's own `bbox` [x, y, width, height] and `area` of each mask, if given."""
        shapes = []
        for entry in self.image_info[image_id]["annotations"]:
            if not _has_mask(entry):
                continue
            shape = {}
            if _is_box(entry.get("bbox")):
                shape["bbox"] = [float(side) for side in entry["bbox"]]
            if is_finite(entry.get("area")) and entry["area"] > 0:
                shape["area"] = entry["area"]
            shapes.append(shape)
        return shapes

    def load_class_ids(self, image_id: int) -> np.ndarray:
        """Return class ids, int32 `[N]`, in the order of the file, boxes without a mask included.

        Ids are negative for crowds.
        """
        return self._class_ids(self.image_info[image_id]["annotations"])

    def _load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Serve as `load_bbox` if some annotations have no mask: their `bbox`, else the mask's."""
        entries = self.image_info[image_id]["annotations"]
        height, width = self.image_size(image_id)
        boxes = [self._box(entry, image_id) for entry in entries]
        corners = np.array(boxes, float).reshape(-1, 4)
        return np.clip(corners, 0, [height, width, height, width]), self._class_ids(entries)

    def _box(self, entry: dict, image_id: int) -> list[float]:
        """Return the box [y1, x1, y2, x2] of an annotation; zeros for an empty mask."""
        if not _has_mask(entry):
            x, y, width, height = entry["bbox"]
            return [y, x, y + height, x + width]
        rle = self._rle(entry, image_id)
        if area(rle) == 0:
            return [0, 0, 0, 0]
        x, y, width, height = bounding_box(rle)
        return [y, x, y + height, x + width]

    def _class_ids(self, entries: list[dict]) -> np.ndarray:
        ids = []
        for entry in entries:
            class_id = self.map_source_class_id(f"coco.{to_integer(entry['category_id'])}")
            ids.append(-class_id if entry.get("iscrowd") else class_id)
        return np.array(ids, np.int32)

    # --- Reading a file ---------------------------------------------------------------------------

    def _add_categories(
        self, categories: dict[int, str], class_ids: Iterable[int] | None, path: Path
    ) -> set[int]:
        """Add the classes. Returns: the category ids to keep."""
        chosen = set(categories) if class_ids is None else set(class_ids)
        unknown = sorted(chosen - set(categories))
        if unknown:
            raise ValueError(
                f"class_ids must be category ids of {path}. Received: {unknown}. "
                f"Try some of {short(categories, 400)}."
            )
        ids_of_name = _ids_of_names(categories, chosen, path)
        unused = max([0, *categories]) + 1
        for name, ids in self._ids_of_classes(ids_of_name).items():
            if not ids:  # a class that this file lacks gets an id that no category has
                ids = [unused]
                unused += 1
            self.add_class("coco", ids[0], name)
            self._same_class = {**self._same_class, **dict.fromkeys(ids[1:], ids[0])}
            self._has_class |= set(ids)
        return chosen

    def _ids_of_classes(self, ids_of_name: dict[str, list[int]]) -> dict[str, list[int]]:
        """Return class name -> category ids: of the wanted classes, else of all names."""
        if self._wanted is None:
            return ids_of_name
        ids_of_class: dict[str, list[int]] = {name: [] for name in self._wanted}
        for name, place in match_class_names(list(ids_of_name), self._wanted).items():
            ids_of_class[self._wanted[place]] += ids_of_name[name]
        return ids_of_class

    def _add_annotations(
        self,
        annotations: list,
        images: Images,
        categories: dict[int, str],
        chosen: set[int],
        path: Path,
        skipped: SkippedEntries,
    ) -> None:
        """Give each image its checked annotations of the chosen classes."""
        masks, boxes = 0, 0
        strangers: set[int] = set()  # categories that are not wanted
        for i, annotation in enumerate(annotations):
            annotation_id = annotation.get("id", i) if isinstance(annotation, dict) else i
            where = f"{path}, annotation {short(annotation_id)}"
            try:
                image, category_id = _check_links(annotation, images, categories, where)
                if image is None or category_id not in chosen:
                    continue
                if category_id not in self._has_class:
                    strangers.add(category_id)
                    raise ValueError(
                        f"Every class must be among {short(self._wanted, 300)}. Received: "
                        f"{short(categories[category_id])} in {where}. "
                        "Try to correct the name, or remove the annotation."
                    )
                size = image["height"], image["width"]
                entry = _check_annotation(annotation, size, where, skipped)
            except ValueError as error:
                skipped.add(error)
                continue
            if _has_mask(entry):
                masks += 1
            else:
                boxes += 1
                self.without_mask.append(_without_mask(image, where))
            image["annotations"].append(entry)
        if strangers and not masks + boxes:
            names = sorted({categories[category_id] for category_id in strangers})
            raise ValueError(
                f"The classes of {path} must be {short(self._wanted, 300)}. "
                f"Received: {short(names, 300)}. Try data annotated with those classes."
            )
        self._count(masks, boxes, path)

    def _count(self, masks: int, boxes: int, path: Path) -> None:
        """Count annotations with a mask and those with only a box; the latter need `load_bbox`."""
        self._with_mask += masks
        self._with_box += boxes
        if boxes and not overrides(self, "load_bbox"):
            self.load_bbox = self._load_bbox  # otherwise boxes are those of the masks
        if boxes and masks:
            logger.warning(
                "%d of %d annotations in %s have a bbox and no segmentation: a network with masks "
                "does not learn them, one without (--config USE_MASK=False) does.",
                boxes,
                boxes + masks,
                path,
            )


def is_coco(data: Any) -> bool:
    """Return whether the content of a JSON file has the form of COCO's instances."""
    return isinstance(data, dict) and all(
        isinstance(data.get(key), list) for key in ("images", "annotations", "categories")
    )


# --- Categories and images of the file ------------------------------------------------------------


def _read_categories(entries: list, path: Path, skipped: SkippedEntries) -> dict[int, str]:
    """Return category id -> name of the usable entries."""
    names: dict[int, str] = {}
    for i, entry in enumerate(entries):
        where = f"{path}, category {i}"
        category_id = to_integer(entry.get("id")) if isinstance(entry, dict) else None
        if category_id is None or "name" not in entry:
            error = ValueError(
                "A category must have a whole number as id, and a name. "
                f"Received: {short(entry)} in {where}. Try to export the annotations again."
            )
            skipped.add(error)
        elif category_id in names:
            error = ValueError(
                f"Category ids must be unique. Received: {category_id} a second time in {where}, "
                f"{short(entry['name'])}. Try to renumber the categories."
            )
            skipped.add(error)
        else:
            names[category_id] = clean_name(entry["name"])
    if entries and not names:
        raise ValueError(skipped.reasons[0])
    return names


def _ids_of_names(categories: dict[int, str], chosen: set[int], path: Path) -> dict[str, list[int]]:
    """Return class name -> the chosen category ids of that name; log names with several ids."""
    ids_of_name: dict[str, list[int]] = {}
    for category_id in sorted(chosen):
        ids_of_name.setdefault(categories[category_id], []).append(category_id)
    warn_similar_names(ids_of_name, path)
    for name, ids in ids_of_name.items():
        if len(ids) > 1:
            logger.warning(
                "The categories %s in %s are all called %s: they are one class.", ids, path, name
            )
    return ids_of_name


def _read_images(entries: list, path: Path, skipped: SkippedEntries) -> Images:
    """Return the images by key; `path` in them is the name in the file."""
    images: Images = {}
    for i, entry in enumerate(entries):
        where = f"{path}, image {i}"
        try:
            image = _read_image(entry, where)
        except ValueError as error:
            skipped.add(error)
            key = _key(entry.get("id")) if isinstance(entry, dict) else None
            if key is not None:
                images.setdefault(key, None)
            continue
        key = str(image["image_id"])  # as `_key` writes it
        earlier = images.get(key)
        if earlier is None:
            images[key] = image
            continue
        error = ValueError(
            f"Image ids must be unique. Received: {entry['id']!r} a second time in {where}. "
            "Try to renumber the images of one of the files that were merged."
        )
        if image["path"] != earlier["path"]:  # the annotations could belong to either
            raise error
        skipped.add(error)
    if entries and not any(images.values()):
        raise ValueError(skipped.reasons[0])
    return images


def _key(value: Any) -> str | None:
    """Return an image id as a key: 7, 7.0 and "7" are the same; None for anything else."""
    number = to_integer(value)
    if number is not None:
        return str(number)
    return value if isinstance(value, str) else None


def _read_image(entry: Any, where: str) -> dict:
    """Return the arguments of `add_image` from an entry of "images"."""
    if not _is_image(entry):
        raise ValueError(
            "An image must have an id, a file_name, and whole numbers as height and width. "
            f"Received: {short(entry)} in {where}. Try to export the annotations again."
        )
    height, width = to_integer(entry.get("height")), to_integer(entry.get("width"))
    if height and width:
        check_size(height, width, where)
    number = to_integer(entry["id"])
    return {
        "image_id": entry["id"] if number is None else number,
        "path": entry["file_name"],
        "height": height or None,
        "width": width or None,
        "annotations": [],
    }


def _is_image(entry: Any) -> bool:
    if not isinstance(entry, dict) or _key(entry.get("id")) is None:
        return False
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        return False
    # Some tools write 0 for an unknown size.
    return all(is_side(entry.get(side) or None) for side in ("height", "width"))


# --- Annotations of the file ----------------------------------------------------------------------


def _check_links(
    annotation: Any, images: Images, categories: dict[int, str], where: str
) -> tuple[dict | None, int]:
    """Return the image of an annotation, None for a skipped one, and its category id.

    Raises: ValueError if the file does not list the image or category.
    """
    key = _key(annotation.get("image_id")) if isinstance(annotation, dict) else None
    if key is None or key not in images:
        raise ValueError(
            "An annotation must belong to an image of the file. "
            f"Received: {short(annotation)} as {where}. "
            "Try to remove the annotation, or to add the image."
        )
    category_id = to_integer(annotation.get("category_id"))
    if category_id is None or category_id not in categories:
        raise ValueError(
            "A category_id must be among the file's categories. Received: "
            f"{short(annotation.get('category_id'))} in {where}. "
            "Try to add the category, or to remove the annotation."
        )
    return images[key], category_id


def _check_annotation(
    annotation: dict,
    size: tuple[int | None, int | None],
    where: str,
    skipped: SkippedEntries,
) -> dict:
    """Return an annotation with the usable parts of its segmentation, or with its `bbox`.

    size: (height, width) of its image, None if unknown.

    Raises: ValueError if it has neither.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        check_rle(segmentation, size, where)
        return annotation
    parts = segmentation if isinstance(segmentation, list) else []
    usable, errors = _usable_parts(parts, where)
    if usable:
        for error in errors:
            skipped.add(error)
        return annotation if len(usable) == len(parts) else {**annotation, "segmentation": usable}
    if errors:
        raise errors[0]
    if not _is_box(annotation.get("bbox")):
        raise ValueError(
            "An annotation must have a segmentation (polygons or a run-length code), or a bbox "
            f"[x, y, width, height]. Received: {short(segmentation)} and "
            f"{short(annotation.get('bbox'))} in {where}. "
            "Try to annotate the object's outline, or remove the entry."
        )
    return {**annotation, "segmentation": []}


def _usable_parts(parts: list, where: str) -> tuple[list, list[ValueError]]:
    """Return the polygons that can be drawn, and why others cannot; empty ones are ignored."""
    usable, errors = [], []
    for part in parts:
        if part == []:
            continue
        try:
            check_polygon(part, where)
            usable.append(part)
        except ValueError as error:
            errors.append(error)
    return usable, errors


def _without_mask(image: dict, where: str) -> str:
    """Return a message for an annotation that is only a box."""
    name = short(os.path.basename(str(image["path"])))
    return (
        "An annotation must have a segmentation for a network with masks to learn it. "
        f"Received: only a bbox in {where}, image {name}. "
        "Try to draw its outline, or --config USE_MASK=False."
    )


def _has_mask(entry: dict) -> bool:
    return bool(entry.get("segmentation"))


def _is_box(value: Any) -> bool:
    """Return whether a value is [x, y, width, height] of a box with an area."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(is_finite(side) for side in value) and min(value[2:]) > 0


# --- Files of the images --------------------------------------------------------------------------


def _find_files(
    images: Images, path: Path, images_dir: str | Path | None, skipped: SkippedEntries
) -> None:
    """Fill in the path of each image; skip images without a file, unless all are without."""
    listed = {key: image for key, image in images.items() if image}
    names = {key: image["path"] for key, image in listed.items()}
    search = ImageSearch(images_folder(names, path, images_dir))
    folder, found = search.folder, search.find(names)
    _warn_renamed(names, found, folder, path)
    outside = {key for key, file in found.items() if ".." in file.relative_to(folder).parts}
    if outside:
        first = next(key for key in found if key in outside)
        logger.warning(
            "%d of %d images that %s lists are outside of %s and are read there: %s, for one.",
            len(outside), len(names), path, folder, found[first],
        )  # fmt: skip
    for key, image in listed.items():
        image["path"] = str(found.get(key) or folder.joinpath(*path_parts(names[key])))
        if key in found and not (skipped.strict and key in outside):
            continue
        error = ValueError(
            f"A listed image must exist. Received: {short(names[key])} in {path}, which is not in "
            f"{folder}. Try to put it there, or to name the folder of the images: --images DIR "
            "(in Python images_dir=)."
        )
        if found or skipped.strict:
            skipped.add(error)
            images[key] = None
    if names and not found:  # the annotations can still be examined
        first = next(iter(listed.values()))
        logger.warning(
            "%d of %d images that %s lists are missing, %s for one. Try to put them there, or to "
            "name their folder: --images DIR (in Python images_dir=).",
            len(names), len(names), path, first["path"],
        )  # fmt: skip


def _warn_renamed(names: dict[str, str], found: dict[str, Path], folder: Path, path: Path) -> None:
    """Log how many images were found under another path than the file names."""
    renamed = [key for key in found if found[key] != folder / names[key].replace("\\", "/")]
    if renamed:
        first = renamed[0]
        logger.warning(
            "%d of %d images that %s lists were found by the end of their path or in other case "
            "only: %s as %s, for one.",
            len(renamed), len(names), path, short(names[first]), found[first],
        )  # fmt: skip


# --- Writing --------------------------------------------------------------------------------------


def coco_results(
    image_id: int, result: Result, category_ids: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Return the detections of one image as COCO result entries, ready for JSON.

    image_id: the id of this image in the ground truth.
    result: as `MaskRCNN.detect` returns for one image: rois `[N, (y1, x1, y2, x2)]` pixels,
        class_ids `[N]`, scores `[N]`, and, unless the model is box-only, masks `[H, W, N]` or a
        list of N RLEs; with keypoints `[N, K, (y, x, score)]`.
    category_ids: class id -> category id of the ground truth; default the class ids themselves.

    Returns: N dicts with image_id, category_id, bbox [x, y, width, height], score, and segmentation
        (RLE) if the result has masks; keypoints and keypoint_scores if it has keypoints.
    Raises: ValueError if the arrays of the result differ in length.
    """
    check_result(result)
    masks = result.get("masks")
    entries = []
    for i, class_id in enumerate(result["class_ids"]):
        y1, x1, y2, x2 = (float(side) for side in result["rois"][i])
        entry = {
            "image_id": image_id,
            "category_id": int(class_id) if category_ids is None else category_ids[int(class_id)],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(result["scores"][i]),
        }
        if masks is not None:
            is_coded = isinstance(masks, list)
            entry["segmentation"] = masks[i] if is_coded else mask_to_rle(masks[:, :, i])
        if "keypoints" in result:
            entry |= detected_keypoints(result["keypoints"][i])
        entries.append(entry)
    return entries


def check_result(result: Result) -> None:
    """Check that the arrays of a result describe the same number of detections.

    Raises: ValueError otherwise.
    """
    missing = [key for key in ("rois", "class_ids", "scores") if key not in result]
    if missing:
        raise ValueError(
            "A result must contain rois, class_ids and scores. Received: one without "
            f"{', '.join(missing)}. Try proposal_recall for a network that only proposes "
            "(RPN_ONLY), else the dict that detect() returns."
        )
    lengths = {key: len(result[key]) for key in ("rois", "class_ids", "scores")}
    if "masks" in result:
        masks = result["masks"]
        lengths["masks"] = len(masks) if isinstance(masks, list) else np.shape(masks)[-1]
    if "keypoints" in result:
        lengths["keypoints"] = len(result["keypoints"])
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "A result must contain one row per detection in every array. "
            f"Received: {lengths}. Try the dict that detect() returns, unchanged."
        )


class CocoWriter(Writer):
    """Writes `coco.json`, COCO's instances; its annotations are also COCO result entries."""

    file_name = "coco.json"

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder, class_names)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image."""
        self.add_named(relative_path(image, self.folder), size, result)

    def add_named(self, file_name: str, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image under this file name."""
        image_id = len(self._images) + 1
        self._images.append(
            {
                "id": image_id,
                "file_name": file_name,
                "height": int(size[0]),
                "width": int(size[1]),
            }
        )
        for entry in coco_results(image_id, result):
            number = len(self._annotations) + 1
            extra = {"area": _area(entry), "iscrowd": 0}
            if "keypoints" in entry:
                extra["num_keypoints"] = len(entry["keypoint_scores"])
            if "segmentation" in entry:
                entry["segmentation"] = self._segmentation(entry["segmentation"])
            self._annotations.append({"id": number, **entry, **extra})

    def _segmentation(self, rle: RLE) -> Any:
        """Return a mask as the annotations have it."""
        return rle

    def content(self) -> dict[str, Any]:
        """Return what the file contains, ready for JSON."""
        keypoints = category_keypoints(self.keypoint_names, self.keypoint_skeleton)
        categories = []
        for i, name in enumerate(self.class_names[1:], start=1):
            categories.append({"id": i, "name": name, **keypoints})
        return {
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }

    def finish(self) -> list[Path]:
        """Write the file."""
        path = self.folder / self.file_name
        write_json(path, self.content())
        return [path]


class CocoPolygonsWriter(CocoWriter):
    """Writes `coco_polygons.json`: the same with polygons, for tools that read no RLE.

    Every part of a mask is a polygon along the corners of its pixels; a hole is joined to it by a
    bridge (`join_rings`). COCO's own rule fills the polygons to the same mask, pixel for pixel.
    """

    file_name = "coco_polygons.json"

    def _segmentation(self, rle: RLE) -> Any:
        parts = trace_mask(mask_plane([rle], 0))
        return [join_rings(rings).ravel().tolist() for rings in parts]


def _area(entry: dict) -> float:
    """Return the area of a result entry in pixels: of its mask, otherwise of its box."""
    if "segmentation" in entry:
        return area(entry["segmentation"])
    _, _, width, height = entry["bbox"]
    return width * height
