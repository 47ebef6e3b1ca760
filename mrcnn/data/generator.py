"""Batches of the training network's inputs, made from a dataset and a config.

Shape shorthand: B images a batch, G = MAX_GT_INSTANCES, R random RoIs, T = TRAIN_ROIS_PER_IMAGE.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ..config import ANY_SIZE_MODES, PAD32_MODES, Config, as_config
from ..nn.anchors import pyramid_anchors
from .dataset import Dataset, no_keypoints, overrides
from .dataset_objects import image_name
from .ground_truth import GroundTruth, LabelledImage, load_labelled_image
from .image import molded_float32, pad_end
from .image_order import ImageOrder, is_tall
from .imgaug_support import import_imgaug
from .roi_targets import build_detection_targets, generate_random_rois
from .rpn_targets import AnchorBlocks, anchor_blocks, build_rpn_targets

log = logging.getLogger("mrcnn")

# Scripts that import this package first may then import imgaug themselves.
with contextlib.suppress(ImportError):
    import_imgaug()

Batch = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]


class DataGenerator(keras.utils.PyDataset):
    """Batches for `keras_model.fit`: item `i` is `(inputs, outputs)`, both tuples.

    inputs: image `[B, H, W, C]`, meta `[B, IMAGE_META_SIZE]`; of a network with an RPN rpn_match
    `[B, A, 1]` and rpn_bbox `[B, RPN_TRAIN_ANCHORS_PER_IMAGE, 4]`; unless RPN_ONLY also
    gt_class_ids `[B, G]`, gt_boxes `[B, G, 4]` in pixels, gt_masks `[B, h, w, G]` (unless
    USE_MASK = False), gt_keypoints `[B, G, K, 3]` in pixels (with NUM_KEYPOINTS) and, if asked for,
    rois `[B, R, 4]`. outputs: empty, or the detection targets.

    In the resize modes of ANY_SIZE_MODES the images of a batch are padded, below and on the right,
    to the largest of them, and batches contain either tall images or others.

    An image that cannot be read is logged and replaced by the next one; after
    `config.MAX_IMAGE_ERRORS` of them a ValueError is raised.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        shuffle: bool = True,
        augment: bool = False,
        augmentation: Any = None,
        random_rois: int = 0,
        batch_size: int = 1,
        detection_targets: bool = False,
        no_augmentation_sources: Sequence[str] | None = None,
        steps: int | None = None,
        seed: int | None = None,
        workers: int | None = None,
        repeats: np.ndarray | None = None,
    ):
        """Create the generator.

        Args:
            dataset: a prepared dataset.
            shuffle: use a new order in every epoch; each image is shown once before any repeats.
            augment, augmentation: see `load_image_gt`.
            random_rois: number of random RoIs an image, to train without the RPN.
            detection_targets: return the targets of the heads for these RoIs, to inspect them.
            no_augmentation_sources: sources whose images are not augmented.
            steps: batches per epoch; default: as many as show each image once.
            seed: the same seed gives the same batches, for any number of workers.
            workers: threads of Keras.
            repeats: `[images]` how often an epoch shows each image, see
                `image_order.repeat_factors`; default: once.

        Raises: ValueError if the dataset is not prepared, is empty, or does not match the config.
        """
        super().__init__(workers=workers or min(4, os.cpu_count() or 1), max_queue_size=8)
        config = as_config(config)
        _check(dataset, config, detection_targets)
        self.dataset, self.config = dataset, config
        self.shuffle, self.augment, self.augmentation = shuffle, augment, augmentation
        self.random_rois, self.detection_targets = random_rois, detection_targets
        self.batch_size = batch_size
        self.no_augmentation_sources = no_augmentation_sources or []
        self.seed = seed if seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        varying_shapes = config.IMAGE_RESIZE_MODE in ANY_SIZE_MODES
        tall = is_tall(dataset) if varying_shapes and batch_size > 1 else None
        self.order = ImageOrder(dataset.image_ids, self.seed, shuffle, repeats, tall, batch_size)
        self.steps = steps or max(1, math.ceil(self.order.length / batch_size))
        self.epoch = 0
        self.errors: dict[int, str] = {}  # image id -> message
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        self._anchors: dict[tuple[int, int], tuple[np.ndarray, AnchorBlocks]] = {}

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Batch:
        """Return batch `index` of the current epoch."""
        return self.batch(self.epoch * self.steps + index)

    def batch(self, number: int, rows: Sequence[int] | None = None) -> Batch:
        """Return a batch by its number, counted from the first one of the first epoch.

        rows: positions in the batch to return; default: all.
        """
        start = number * self.batch_size
        try:
            loaded = [self._load_at(start + i) for i in rows or range(self.batch_size)]
            shapes = [labelled.ground_truth.image.shape[:2] for labelled, _ in loaded]
            height, width = np.max(shapes, axis=0)
            examples = [
                self._example(self._pad(gt, height, width), keypoints, rng)
                for (gt, keypoints), rng in loaded
            ]
        except Exception as error:
            self.failure = error  # Keras wraps what a worker raises; training raises the original
            raise
        inputs, outputs = zip(*examples, strict=True)
        return tuple(_stack(inputs)), tuple(_stack(outputs))

    def on_epoch_end(self) -> None:
        """Go to the next epoch."""
        self.epoch += 1

    def image_id(self, position: int) -> int:
        """Return the image at a position, counted from the first batch of the first epoch."""
        return self.order[position]

    # --- Loading ------------------------------------------------------------------------------

    def _load_at(self, position: int) -> tuple[LabelledImage, np.random.Generator]:
        """Load the image at a position, or the next readable one; and its own random generator."""
        rng = np.random.default_rng((self.seed, position, 1))
        while True:
            image_id = self.image_id(position)
            try:
                return self._load(image_id, rng), rng
            except (ValueError, OSError) as error:
                self._count_error(image_id, error)
                position += 1

    def _count_error(self, image_id: int, error: Exception) -> None:
        """Log and count an unreadable image. Raises: ValueError if there are too many."""
        name = image_name(self.dataset, image_id)
        with self._lock:
            if image_id not in self.errors:
                log.warning("Skipped %s: %s", name, error)
            self.errors[image_id] = f"{name}: {error}"
            limit = min(self.config.MAX_IMAGE_ERRORS, len(self.dataset.image_ids) - 1)
            if len(self.errors) > limit:
                listed = "".join(f"\n  {line}" for line in self.errors.values())
                raise ValueError(
                    f"At most {limit} images may be unusable (MAX_IMAGE_ERRORS, and one must be "
                    f"left). Received: {listed}\nTry repairing or removing them."
                ) from error

    def _load(self, image_id: int, rng: np.random.Generator) -> LabelledImage:
        """Call `load_labelled_image`. Raises: ValueError if a side is not a multiple of 64."""
        config = self.config
        source = self.dataset.image_info[image_id]["source"]
        loaded = load_labelled_image(
            self.dataset,
            config,
            image_id,
            augment=self.augment,
            augmentation=None if source in self.no_augmentation_sources else self.augmentation,
            use_mini_mask=config.USE_MINI_MASK,
            rng=rng,
        )
        height, width = loaded.ground_truth.image.shape[:2]
        if config.IMAGE_RESIZE_MODE == "none" and (height % 64 or width % 64):
            raise ValueError(
                "In mode 'none' an image's sides must be multiples of 64. Received: "
                f"{height} x {width}. Try IMAGE_RESIZE_MODE = 'pad64' or 'square'."
            )
        return loaded

    def _pad(self, loaded: GroundTruth, height: int, width: int) -> GroundTruth:
        """Pad image and masks below and on the right to this size.

        The padding is black, or the mean in the modes of PAD32_MODES, as in `resize_image`.
        """
        image, meta, _, _, masks = loaded
        padding = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
        if not np.any(padding):
            return loaded
        meta = meta.copy()
        meta[4:6] = height, width  # image_shape
        if masks is not None and not self.config.USE_MINI_MASK:
            masks = np.pad(masks, padding)
        value = self.config.MEAN_PIXEL if self.config.IMAGE_RESIZE_MODE in PAD32_MODES else 0
        padded = pad_end(image, height, width, value)
        return loaded._replace(image=padded, image_meta=meta, mask=masks)

    # --- The network's inputs -----------------------------------------------------------------

    def _example(
        self, loaded: GroundTruth, keypoints: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The network's inputs for one image, and the detection targets if asked for."""
        config = self.config
        image, meta, class_ids, gt_boxes, masks = loaded
        inputs = [self.as_input(image), meta]
        if config.has_rpn():
            anchors, blocks = self.anchors(image.shape)
            rpn_match, rpn_bbox = build_rpn_targets(
                image.shape, anchors, class_ids, gt_boxes, config, rng, blocks
            )
            inputs += [rpn_match[:, None], rpn_bbox.astype(np.float32)]
        if config.RPN_ONLY:
            return inputs, []
        if len(class_ids) > config.MAX_GT_INSTANCES:
            kept = rng.choice(len(class_ids), config.MAX_GT_INSTANCES, replace=False)
            class_ids, gt_boxes = class_ids[kept], gt_boxes[kept]
            masks = None if masks is None else masks[:, :, kept]
            keypoints = None if keypoints is None else keypoints[kept]
        box_type = np.float32 if config.CONTINUOUS_BOXES else np.int32
        typed_boxes = gt_boxes.astype(box_type, copy=False)
        inputs += _pad_instances(class_ids, typed_boxes, masks, config.MAX_GT_INSTANCES)
        if keypoints is not None:
            inputs.append(_pad_keypoints(keypoints, config.MAX_GT_INSTANCES))
        if not self.random_rois:
            return inputs, []
        rois = generate_random_rois(image.shape, self.random_rois, class_ids, gt_boxes, rng)
        inputs.append(rois)
        if not self.detection_targets or masks is None:
            return inputs, []
        targets = build_detection_targets(rois, class_ids, gt_boxes, masks, config, rng)
        inputs.append(targets.rois)
        return inputs, [targets.class_ids[:, None], targets.deltas, targets.masks]

    def as_input(self, image: np.ndarray) -> np.ndarray:
        """Return the image as batches contain it: float32 minus the mean."""
        return molded_float32(image, self.config)

    def anchors(self, image_shape: Sequence[int]) -> tuple[np.ndarray, AnchorBlocks]:
        """Return the `[A, 4]` pixel anchors for images of this shape, and their blocks; cached."""
        height, width = image_shape[:2]
        if (height, width) not in self._anchors:
            anchors = pyramid_anchors(self.config, (height, width))
            self._anchors[height, width] = anchors, anchor_blocks(anchors)
        return self._anchors[height, width]


def _check(dataset: Dataset, config: Config, detection_targets: bool) -> None:
    """Raise ValueError unless the config's network can be trained on the dataset."""
    if not hasattr(dataset, "num_classes"):
        raise ValueError(
            "The dataset must be prepared. Received: one without class ids. Try dataset.prepare()."
        )
    if len(dataset.image_ids) == 0:
        raise ValueError(
            "The dataset must contain images. Received: none. "
            "Try checking the path that it was read from."
        )
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            "NUM_CLASSES must be 1 (background) + the dataset's classes. Received: NUM_CLASSES = "
            f"{config.NUM_CLASSES}, and {dataset.num_classes} classes in the dataset: "
            f"{dataset.class_names}. Try NUM_CLASSES = {dataset.num_classes}."
        )
    names = dataset.keypoint_names
    if config.has_keypoint_head() and not overrides(dataset, "load_keypoints"):
        raise no_keypoints(dataset)
    if config.has_keypoint_head() and names and len(names) != config.NUM_KEYPOINTS:
        raise ValueError(
            "NUM_KEYPOINTS must be the number of the dataset's keypoints. Received: NUM_KEYPOINTS "
            f"= {config.NUM_KEYPOINTS}, and {len(names)} in the dataset: {list(names)}. Try "
            f"NUM_KEYPOINTS = {len(names)}."
        )
    if detection_targets and not config.has_mask_head():
        raise ValueError(
            "detection_targets needs a network with masks. Received: a config with USE_MASK = "
            f"{config.USE_MASK}, RPN_ONLY = {config.RPN_ONLY}. Try USE_MASK = True to look at them."
        )


def _pad_instances(
    class_ids: np.ndarray, gt_boxes: np.ndarray, masks: np.ndarray | None, count: int
) -> list[np.ndarray]:
    """Class ids `[count]`, boxes `[count, 4]` and masks `[h, w, count]`, padded with zeros."""
    found = len(class_ids)
    padded_ids = np.zeros(count, np.int32)
    padded_boxes = np.zeros((count, 4), gt_boxes.dtype)
    padded_ids[:found], padded_boxes[:found] = class_ids, gt_boxes
    if masks is None:
        return [padded_ids, padded_boxes]
    padded_masks = np.zeros((*masks.shape[:2], count), bool)
    padded_masks[:, :, :found] = masks
    return [padded_ids, padded_boxes, padded_masks]


def _pad_keypoints(keypoints: np.ndarray, count: int) -> np.ndarray:
    """`[count, K, 3]` keypoints, padded with zeros."""
    padded = np.zeros((count, *keypoints.shape[1:]), np.float32)
    padded[: len(keypoints)] = keypoints
    return padded


def _stack(rows: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Stack each column to `[B, ...]`; a single row is not copied, for full masks take 100 MB."""
    if len(rows) == 1:
        return [column[None] for column in rows[0]]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def data_generator(
    dataset: Dataset,
    config: Config,
    shuffle: bool = True,
    augment: bool = False,
    augmentation: Any = None,
    random_rois: int = 0,
    batch_size: int = 1,
    detection_targets: bool = False,
    no_augmentation_sources: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Yield the batches of a `DataGenerator` endlessly, for `keras_model.fit` or inspection."""
    batches = DataGenerator(
        dataset,
        config,
        shuffle,
        augment,
        augmentation,
        random_rois,
        batch_size,
        detection_targets,
        no_augmentation_sources,
    )
    while True:
        for i in range(len(batches)):
            yield batches[i]
        batches.on_epoch_end()
