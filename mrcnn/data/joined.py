"""Several datasets as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dataset import Dataset, has_boxes_only, match_class_names, overrides


class JoinedDataset(Dataset):
    """Several datasets as one, to train on together. Classes of one name are one class.

    An image teaches only the classes that its own source knows: what another source would call a cat is not
    taught to be background (the `active_class_ids` of its image_meta, made from `source_class_ids`). Sources keep
    their names and ids, `map_source_class_id("coco.18")`; a name that comes again is numbered, `"coco_2.18"`.
    """

    def __init__(self, datasets: Sequence[Dataset]):
        """A prepared dataset of the images of all, in their order.

        datasets: prepared ones.

        Raises: ValueError where there is none, or one is not prepared.
        """
        super().__init__()
        datasets = list(datasets)
        unprepared = [
            type(dataset).__name__ for dataset in datasets if not hasattr(dataset, "num_classes")
        ]
        if not datasets or unprepared:
            raise ValueError(
                f"Datasets must be prepared, at least one of them. Received: {unprepared or 'none'}. "
                "Try dataset.prepare()."
            )
        self._places: list[
            tuple[Dataset, int, np.ndarray]
        ] = []  # of each image: dataset, its id there, class table
        self._known: dict[str, dict] = {}  # source -> its class id -> class here
        for dataset in datasets:
            self._add(dataset)
        if any(overrides(dataset, "load_bbox") for dataset in datasets):
            self.load_bbox = self._load_bbox  # else boxes are those of the masks, as everywhere
        self.prepare()

    def _add(self, dataset: Dataset) -> None:
        sources = {source: self._free_name(source) for source in dataset.sources if source}
        here = [info["name"] for info in self.class_info[1:]]
        places = match_class_names([info["name"] for info in dataset.class_info[1:]], here)
        table = np.zeros(dataset.num_classes, np.int32)
        for class_id, info in enumerate(dataset.class_info[1:], start=1):
            name, source = info["name"], sources[info["source"]]
            if name not in places:
                places[name] = len(self.class_info) - 1
                self.add_class(source, info["id"], name)
            table[class_id] = places[name] + 1
            self._known.setdefault(source, {})[info["id"]] = int(table[class_id])
        self.left_out += dataset.left_out
        for image_id in dataset.image_ids:
            info = dataset.image_info[image_id]
            self.image_info.append({**info, "source": sources.get(info["source"], info["source"])})
            self._places.append((dataset, int(image_id), table))

    def _free_name(self, source: str) -> str:
        count, name = 1, source
        while name in self._known:
            count += 1
            name = f"{source}_{count}"
        return name

    def prepare(self, class_map=None) -> None:
        """Number classes and images; classes that several sources share belong to each of them."""
        super().prepare(class_map)
        self.sources = ["", *self._known]
        for source, known in self._known.items():
            self.source_class_ids[source] = sorted({0, *known.values()})
            self.class_from_source_map.update(
                {f"{source}.{i}": class_id for i, class_id in known.items()}
            )

    def get_source_class_id(self, class_id: int, source: str):
        """The id that a source gave to a class.

        Raises: ValueError where the source does not know the class.
        """
        ids = [i for i, here in self._known.get(source, {}).items() if here == class_id]
        return ids[0] if ids else super().get_source_class_id(class_id, source)

    def image_reference(self, image_id: int) -> str:
        """What the image's own dataset says."""
        dataset, own_id, _ = self._places[image_id]
        return dataset.image_reference(own_id)

    def load_image(self, image_id: int) -> np.ndarray:
        """The image, as its own dataset gives it."""
        dataset, own_id, _ = self._places[image_id]
        return dataset.load_image(own_id)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The masks of its own dataset, and class ids of this one, int32 [N], negative for crowds."""
        dataset, own_id, table = self._places[image_id]
        masks, class_ids = dataset.load_mask(own_id)
        return masks, _translated(class_ids, table)

    def load_class_ids(self, image_id: int) -> np.ndarray:
        """Class ids of this dataset, int32 [N], negative for crowds; read as its own dataset reads them."""
        dataset, own_id, table = self._places[image_id]
        return _translated(dataset.load_class_ids(own_id), table)

    @property
    def boxes_only(self) -> bool:
        """Whether none of the datasets has masks."""
        return all(has_boxes_only(dataset) for dataset, _, _ in self._places)

    def annotated_boxes(self, image_id: int) -> list[dict]:
        """What its own dataset's annotations say of boxes and areas; empty if they say nothing."""
        dataset, own_id, _ = self._places[image_id]
        return dataset.annotated_boxes(own_id) if hasattr(dataset, "annotated_boxes") else []

    def _load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The boxes of its own dataset, and class ids of this one; `load_bbox` where a dataset has its own."""
        dataset, own_id, table = self._places[image_id]
        boxes, class_ids = dataset.load_bbox(own_id)
        return boxes, _translated(class_ids, table)


def _translated(class_ids, table: np.ndarray) -> np.ndarray:
    """int32 [N] by a table of ids; the sign stays."""
    class_ids = np.asarray(class_ids, np.int32)
    return np.sign(class_ids) * table[np.abs(class_ids)]
