"""Several datasets as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .dataset import Dataset, has_boxes_only, match_class_names, overrides


class Origin(NamedTuple):
    """The dataset of an image, its id there, and `[classes]` class ids there -> class ids here."""

    dataset: Dataset
    image_id: int
    class_ids: np.ndarray


class JoinedDataset(Dataset):
    """Several datasets as one, to train on together. Classes of one name become one class.

    An image is a negative only for the classes that its own source has: a cat is not learned as
    background in images of a source without cats (the `active_class_ids` of image_meta, made from
    `source_class_ids`). Sources keep their names and ids, `map_source_class_id("coco.18")`; a
    repeated name gets a number, `"coco_2.18"`.

    origins: the dataset and the id there of each image.
    """

    def __init__(self, datasets: Sequence[Dataset]):
        """Join prepared datasets, their images in the given order.

        Raises: ValueError if the list is empty, or a dataset is not prepared.
        """
        super().__init__()
        datasets = list(datasets)
        unprepared = [
            type(dataset).__name__ for dataset in datasets if not hasattr(dataset, "num_classes")
        ]
        if not datasets or unprepared:
            raise ValueError(
                "Datasets must be prepared, at least one of them. "
                f"Received: {unprepared or 'none'}. Try dataset.prepare()."
            )
        self.origins: list[Origin] = []  # of each image
        self._known: dict[str, dict[Any, int]] = {}  # source -> its class id -> class id here
        for dataset in datasets:
            self._add(dataset)
        if any(overrides(dataset, "load_bbox") for dataset in datasets):
            self.load_bbox = self._load_bbox  # otherwise boxes are those of the masks
        self._join_keypoints(datasets)
        self.prepare()

    def _add(self, dataset: Dataset) -> None:
        """Add the classes and images of a dataset."""
        sources = {source: self._free_name(source) for source in dataset.sources if source}
        here = [info["name"] for info in self.class_info[1:]]
        positions = match_class_names([info["name"] for info in dataset.class_info[1:]], here)
        class_ids = np.zeros(dataset.num_classes, np.int32)
        for class_id, info in enumerate(dataset.class_info[1:], start=1):
            name, source = info["name"], sources[info["source"]]
            if name not in positions:
                positions[name] = len(self.class_info) - 1
                self.add_class(source, info["id"], name)
            class_ids[class_id] = positions[name] + 1
            self._known.setdefault(source, {})[info["id"]] = int(class_ids[class_id])
        self.left_out += dataset.left_out
        for image_id in dataset.image_ids:
            info = dataset.image_info[image_id]
            self.image_info.append({**info, "source": sources.get(info["source"], info["source"])})
            self.origins.append(Origin(dataset, int(image_id), class_ids))

    def _join_keypoints(self, datasets: Sequence[Dataset]) -> None:
        """Have keypoints if all datasets have the same ones."""
        first = datasets[0]
        names = list(first.keypoint_names)
        have_keypoints = all(overrides(dataset, "load_keypoints") for dataset in datasets)
        if have_keypoints and all(list(other.keypoint_names) == names for other in datasets):
            self.keypoint_names, self.keypoint_skeleton = names, first.keypoint_skeleton
            self.load_keypoints = self._load_keypoints

    def _free_name(self, source: str) -> str:
        """The name of a source, with a number if it is already used."""
        count, name = 1, source
        while name in self._known:
            count += 1
            name = f"{source}_{count}"
        return name

    def prepare(self, class_map: Any = None) -> None:
        """Number classes and images; classes that several sources share belong to each of them."""
        super().prepare(class_map)
        self.sources = ["", *self._known]
        for source, known in self._known.items():
            self.source_class_ids[source] = sorted({0, *known.values()})
            for own_id, class_id in known.items():
                self.class_from_source_map[f"{source}.{own_id}"] = class_id

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        """Return the id that a source gives to a class.

        Raises: ValueError if the source does not have the class.
        """
        for own_id, here in self._known.get(source, {}).items():
            if here == class_id:
                return own_id
        return super().get_source_class_id(class_id, source)

    def image_reference(self, image_id: int) -> str:
        """Return the `image_reference` of the image's own dataset."""
        origin = self.origins[image_id]
        return origin.dataset.image_reference(origin.image_id)

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the image of its own dataset."""
        origin = self.origins[image_id]
        return origin.dataset.load_image(origin.image_id)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks of the image's own dataset, and `[N]` int32 class ids of this one."""
        origin = self.origins[image_id]
        masks, class_ids = origin.dataset.load_mask(origin.image_id)
        return masks, _translate(class_ids, origin.class_ids)

    def load_class_ids(self, image_id: int) -> np.ndarray:
        """Return `[N]` int32 class ids of this dataset, read as the image's own dataset does."""
        origin = self.origins[image_id]
        return _translate(origin.dataset.load_class_ids(origin.image_id), origin.class_ids)

    @property
    def boxes_only(self) -> bool:
        """Whether all datasets have boxes only."""
        return all(has_boxes_only(origin.dataset) for origin in self.origins)

    def annotated_boxes(self, image_id: int) -> list[dict]:
        """Return boxes and areas from the annotations of the image's own dataset, if it has any."""
        origin = self.origins[image_id]
        annotated_boxes = getattr(origin.dataset, "annotated_boxes", None)
        return annotated_boxes(origin.image_id) if annotated_boxes else []

    def _load_keypoints(self, image_id: int) -> np.ndarray:
        """`load_keypoints` of the image's own dataset."""
        origin = self.origins[image_id]
        return origin.dataset.load_keypoints(origin.image_id)

    def _load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """`load_bbox` of the image's own dataset, and class ids of this one."""
        origin = self.origins[image_id]
        boxes, class_ids = origin.dataset.load_bbox(origin.image_id)
        return boxes, _translate(class_ids, origin.class_ids)


def _translate(class_ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`[N]` int32 entries of the table at the class ids; the sign of crowds is kept."""
    class_ids = np.asarray(class_ids, np.int32)
    return np.sign(class_ids) * table[np.abs(class_ids)]
