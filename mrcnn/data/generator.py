"""Dataset and config to batches: the network's inputs, made from images and their ground truth."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading

import keras
import numpy as np

from ..config import as_config
from ..nn.anchors import pyramid_anchors
from .ground_truth import image_name, load_image_gt
from .image import mold_image
from .image_order import ImageOrder, is_tall
from .imgaug_support import import_imgaug
from .roi_targets import build_detection_targets, generate_random_rois
from .rpn_targets import anchor_blocks, build_rpn_targets

log = logging.getLogger("mrcnn")

# Scripts import imgaug themselves after this package: load it now, while the names are lent.
with contextlib.suppress(ImportError):
    import_imgaug()


class DataGenerator(keras.utils.PyDataset):
    """Batches for `keras_model.fit`: item `i` is `(inputs, ())` with the inputs of the training network.

    Both are tuples, because Keras takes no lists here.

    dataset: a prepared `Dataset`. config: a `Config`. shuffle: a new order in every pass; no image comes again
    before all were seen. random_rois: give so many random RoIs too (to train without the RPN).
    detection_targets: give the heads' targets for them, in place of `()`; for looking at, and with masks only.
    no_augmentation_sources: sources whose images stay as they are. steps: batches an epoch; default: one pass.
    seed: the same seed gives the same batches, whatever the number of workers. repeats: `[images]` how often a pass
    shows each image, see `sampling.repeat_factors`; default: once.

    In the resize modes pad64 and none the images of a batch are padded, below and on the right, to the largest of
    them, and tall images are kept apart from others.

    Images that cannot be read are logged and replaced by the next; after `config.MAX_IMAGE_ERRORS` it stops.
    """

    def __init__(
        self,
        dataset,
        config,
        shuffle=True,
        augment=False,
        augmentation=None,
        random_rois=0,
        batch_size=1,
        detection_targets=False,
        no_augmentation_sources=None,
        steps=None,
        seed=None,
        workers=None,
        repeats=None,
    ):
        super().__init__(workers=workers or min(4, os.cpu_count() or 1), max_queue_size=8)
        config = as_config(config)
        if not hasattr(dataset, "num_classes"):
            raise ValueError(
                "The dataset must be prepared. Received: one without class ids. Try dataset.prepare()."
            )
        if len(dataset.image_ids) == 0:
            raise ValueError(
                "The dataset must hold images. Received: none. Try checking the path it was read from."
            )
        if dataset.num_classes != config.NUM_CLASSES:
            raise ValueError(
                f"NUM_CLASSES must be 1 (background) + the dataset's classes. Received: NUM_CLASSES = "
                f"{config.NUM_CLASSES}, and {dataset.num_classes} classes in the dataset: {dataset.class_names}. "
                f"Try NUM_CLASSES = {dataset.num_classes}."
            )
        if detection_targets and not config.has_mask_head():
            raise ValueError(
                "detection_targets needs a network with masks. Received: a config with USE_MASK = "
                f"{config.USE_MASK}, RPN_ONLY = {config.RPN_ONLY}. Try USE_MASK = True to look at them."
            )
        self.dataset, self.config = dataset, config
        self.shuffle, self.augment, self.augmentation = shuffle, augment, augmentation
        self.random_rois, self.detection_targets = random_rois, detection_targets
        self.batch_size = batch_size
        self.no_augmentation_sources = no_augmentation_sources or []
        self.seed = seed if seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        tall = (
            is_tall(dataset)
            if config.IMAGE_RESIZE_MODE in ("pad64", "none") and batch_size > 1
            else None
        )
        self.order = ImageOrder(dataset.image_ids, self.seed, shuffle, repeats, tall, batch_size)
        self.steps = steps or max(1, math.ceil(self.order.length / batch_size))
        self.epoch = 0
        self.errors: dict[int, str] = {}  # by image id
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        self._anchors: dict = {}

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        """Batch `index` of the current epoch."""
        return self.batch(self.epoch * self.steps + index)

    def batch(self, number: int, rows=None):
        """The batch of this number, counted from the first of the first epoch; or only those of its rows."""
        start = number * self.batch_size
        try:
            loaded = [self._example(start + i) for i in rows or range(self.batch_size)]
            height, width = np.max([image.shape[:2] for (image, *_), _ in loaded], axis=0)
            rows = [
                self._inputs(*self._padded(example, height, width), rng) for example, rng in loaded
            ]
        except Exception as error:
            self.failure = error  # Keras wraps what a worker raises: training shows this one
            raise
        inputs, outputs = zip(*rows, strict=True)
        return tuple(_stacked(inputs)), tuple(_stacked(outputs))

    def on_epoch_end(self):
        self.epoch += 1

    def image_id(self, position: int) -> int:
        """The image at a position counted from the first batch of all: pass after pass, each in its own order."""
        return self.order[position]

    def _example(self, position):
        """What `load_image_gt` gives of one image, the next one where this cannot be read; and its own generator."""
        rng = np.random.default_rng((self.seed, position, 1))
        while True:
            image_id = self.image_id(position)
            try:
                return self._load(image_id, rng), rng
            except (ValueError, OSError) as error:
                self._count_error(image_id, error)
                position += 1

    def _count_error(self, image_id, error):
        name = image_name(self.dataset, image_id)
        with self._lock:
            if image_id not in self.errors:
                log.warning("Skipped %s: %s", name, error)
            self.errors[image_id] = f"{name}: {error}"
            most = min(self.config.MAX_IMAGE_ERRORS, len(self.dataset.image_ids) - 1)
            if len(self.errors) > most:
                raise ValueError(
                    f"At most {most} images may be unusable (MAX_IMAGE_ERRORS, and one must be left). Received: "
                    + "".join(f"\n  {line}" for line in self.errors.values())
                    + "\nTry mending or removing them."
                ) from error

    def _load(self, image_id, rng):
        """What `load_image_gt` gives of one image.

        Raises: ValueError where the network cannot halve it six times.
        """
        config = self.config
        source = self.dataset.image_info[image_id]["source"]
        loaded = load_image_gt(
            self.dataset,
            config,
            image_id,
            augment=self.augment,
            augmentation=None if source in self.no_augmentation_sources else self.augmentation,
            use_mini_mask=config.USE_MINI_MASK,
            rng=rng,
        )
        height, width = loaded[0].shape[:2]
        if config.IMAGE_RESIZE_MODE == "none" and (height % 64 or width % 64):
            raise ValueError(
                f"In mode 'none' an image's sides must be multiples of 64. Received: {height} x {width}. "
                "Try IMAGE_RESIZE_MODE = 'pad64' or 'square'."
            )
        return loaded

    def _padded(self, example, height, width):
        """What `load_image_gt` gave, the image black below and on the right up to this size."""
        image, meta, class_ids, gt_boxes, masks = example
        padding = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
        if not np.any(padding):
            return example
        meta = meta.copy()
        meta[4:6] = height, width  # the molded image's shape
        masks = masks if masks is None or self.config.USE_MINI_MASK else np.pad(masks, padding)
        return np.pad(image, padding), meta, class_ids, gt_boxes, masks

    def _inputs(self, image, meta, class_ids, gt_boxes, masks, rng):
        """The network's inputs for one image, and the targets where asked for."""
        config = self.config
        anchors, blocks = self.anchors(image.shape)
        rpn_match, rpn_bbox = build_rpn_targets(
            image.shape, anchors, class_ids, gt_boxes, config, rng, blocks
        )
        inputs = [self.as_input(image), meta, rpn_match[:, None], rpn_bbox.astype(np.float32)]
        if config.RPN_ONLY:
            return inputs, []
        if len(class_ids) > config.MAX_GT_INSTANCES:
            kept = rng.choice(len(class_ids), config.MAX_GT_INSTANCES, replace=False)
            class_ids, gt_boxes = class_ids[kept], gt_boxes[kept]
            masks = None if masks is None else masks[:, :, kept]
        count = len(class_ids)
        padded_ids = np.zeros(config.MAX_GT_INSTANCES, np.int32)
        padded_boxes = np.zeros((config.MAX_GT_INSTANCES, 4), np.int32)
        padded_ids[:count], padded_boxes[:count] = class_ids, gt_boxes
        inputs += [padded_ids, padded_boxes]
        if masks is not None:
            padded_masks = np.zeros((*masks.shape[:2], config.MAX_GT_INSTANCES), bool)
            padded_masks[:, :, :count] = masks
            inputs.append(padded_masks)
        outputs = []
        if self.random_rois:
            rois = generate_random_rois(image.shape, self.random_rois, class_ids, gt_boxes, rng)
            inputs.append(rois)
            if self.detection_targets:
                rois, *outputs = build_detection_targets(
                    rois, class_ids, gt_boxes, masks, config, rng
                )
                inputs.append(rois)
                outputs[0] = outputs[0][:, None]
        return inputs, outputs

    def as_input(self, image) -> np.ndarray:
        """`[H, W, C]` float32: the image as batches hold it, less the mean."""
        return mold_image(image, self.config).astype(np.float32)

    def anchors(self, image_shape) -> tuple:
        """`[A, 4]` pixel anchors for a molded image of this shape, and their blocks, kept for the next image."""
        key = tuple(image_shape[:2])
        if key not in self._anchors:
            anchors = pyramid_anchors(self.config, key)
            self._anchors[key] = anchors, anchor_blocks(anchors)
        return self._anchors[key]


def _stacked(rows) -> list[np.ndarray]:
    """A batch `[B, ...]` of each column; of one row without a copy, which full masks (100 MB) make slow."""
    return [
        np.stack(column) if len(column) > 1 else column[0][None]
        for column in zip(*rows, strict=True)
    ]


def data_generator(
    dataset,
    config,
    shuffle=True,
    augment=False,
    augmentation=None,
    random_rois=0,
    batch_size=1,
    detection_targets=False,
    no_augmentation_sources=None,
):
    """`DataGenerator` as an endless Python generator of `(inputs, outputs)`, for `keras_model.fit` and to look at."""
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
