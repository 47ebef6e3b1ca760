"""Dataset and config to batches: load an image with its truth, augment it, build the network's inputs."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import random
import threading

import keras
import numpy as np

from ..config import as_config
from ..nn.boxes import area
from ..nn.image_meta import compose_image_meta
from ..nn.targets import (
    anchor_blocks,
    build_detection_targets,
    build_rpn_targets,
    generate_random_rois,
    pyramid_anchors,
)
from .dataset import overrides
from .image import match_channels, molded_photo, resize_boxes, resize_image, to_uint8
from .image_order import ImageOrder, is_tall
from .masks import boxes_to_masks, extract_bboxes, minimize_mask, resize_mask

log = logging.getLogger("mrcnn")

TRIES = 100  # draws of another image until one is of the same source, and can be read


# --- imgaug on NumPy 2 -----------------------------------------------------------------------------------------


def import_imgaug():
    """The imgaug module. Version 0.4.0 reads names at import that NumPy 2 no longer has: they are lent to it.

    Raises: ImportError that says what to install.
    """
    lent = {
        "sctypes": {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64],
            "complex": [np.complex64, np.complex128],
            "others": [bool, object, bytes, str, np.void],
        },
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
    }
    lent = {name: value for name, value in lent.items() if name not in np.__dict__}
    try:
        for name, value in lent.items():
            setattr(np, name, value)
        import imgaug
    except ImportError as error:
        raise ImportError(
            f"imgaug cannot be imported ({error}). Try `pip install imgaug 'opencv-python<5'`; where libGL is missing "
            "(a server without a screen), `apt-get install libgl1` or `pip install 'opencv-python-headless<5'`."
        ) from error
    finally:
        for name in lent:
            delattr(np, name)
    _mend_elastic_transformation(imgaug.augmenters.ElasticTransformation)
    return imgaug


def _mend_elastic_transformation(elastic) -> None:
    """Have it move pixels by float32, as OpenCV wants: under NumPy 2's rules float32 + float64 became float64."""
    shift_maps = elastic._generate_shift_maps
    elastic._generate_shift_maps = staticmethod(
        lambda *args, **kwargs: [shift.astype(np.float32) for shift in shift_maps(*args, **kwargs)]
    )


# Scripts import imgaug themselves after this package: load it now, while the names are lent.
with contextlib.suppress(ImportError):
    import_imgaug()


# --- One image --------------------------------------------------------------------------------------------------


def load_image_gt(
    dataset, config, image_id, augment=False, augmentation=None, use_mini_mask=False, rng=None
):
    """One image with its truth, as the network sees it but for the mean.

    augment: old flag, mirrors left-right half of the time. augmentation: an imgaug augmenter, an albumentations
    transform, or a callable `(image, masks, rng) -> (image, masks)`; `augment.py` says what one that pastes other
    images' objects is given.
    use_mini_mask: cut masks to their boxes and resize them.
    rng: a numpy Generator; None draws from the global generators, in matterport's order.

    A network without masks (USE_MASK = False, RPN_ONLY) takes the boxes of the dataset's own `load_bbox`. They are
    scaled and mirrored as boxes; augmentations know masks only, so they are given each box as a filled mask, and what
    becomes of it is boxed again (larger than the object would be after a rotation). Without a `load_bbox` the boxes
    are those of the masks, augmented with them.

    Returns:
        image: `[h, w, C]` uint8, molded size. image_meta: `[IMAGE_META_SIZE]`. class_ids: `[N]` int32.
        bbox: `[N, (y1, x1, y2, x2)]` pixels. mask: `[h, w, N]` bool, or mini-masks; None for a network without masks.

    Raises: ValueError naming the image where its masks, or its boxes, and class ids do not fit.
    """
    config = as_config(config)
    image, truth, class_ids, (original_shape, window, scale) = _load_resized(
        dataset, config, image_id, rng
    )
    mirrored = augment and (random.randint(0, 1) if rng is None else rng.integers(2))
    image = np.fliplr(image) if mirrored else image
    # Cropping and augmentation can remove an instance altogether.
    if truth.ndim == 2:  # boxes
        if mirrored:
            truth[:, [1, 3]] = image.shape[1] - truth[:, [3, 1]]
        visible = area(truth) > 0
        bbox, class_ids = truth[visible], class_ids[visible]
        mask = boxes_to_masks(bbox, image.shape) if augmentation else None
    else:
        mask, class_ids, bbox = _visible(np.fliplr(truth) if mirrored else truth, class_ids)
    if augmentation:

        def another(rng):
            return _another(dataset, config, image_id, rng)

        image, mask, class_ids = _augment(augmentation, image, mask, class_ids, another, rng)
        mask, class_ids, bbox = _visible(mask, class_ids)
    active_class_ids = np.zeros([dataset.num_classes], dtype=np.int32)
    active_class_ids[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    if not config.has_mask_head():
        mask = None
    elif use_mini_mask:
        mask = minimize_mask(bbox, mask, config.MINI_MASK_SHAPE, exact=config.EXACT_RESIZE)
    image_meta = compose_image_meta(
        image_id, original_shape, image.shape, window, scale, active_class_ids
    )
    return image, image_meta, class_ids, bbox, mask


def _load_resized(dataset, config, image_id, rng):
    """Image, masks and class ids of molded size; and what image_meta needs: original shape, window and scale.

    For a network without masks, of a dataset with boxes of its own: boxes `[N, (y1, x1, y2, x2)]` in place of masks.
    """
    image = match_channels(
        to_uint8(dataset.load_image(image_id)), config.IMAGE_CHANNEL_COUNT, _name(dataset, image_id)
    )
    from_boxes = not config.has_mask_head() and overrides(dataset, "load_bbox")
    load = _load_bbox if from_boxes else _load_mask
    truth, class_ids = load(dataset, config, image_id, image.shape)
    original_shape = image.shape
    rectangle = config.IMAGE_SHAPE if config.IMAGE_RESIZE_MODE in ("square", "crop") else None
    image, window, scale, padding, crop = resize_image(
        image,
        min_dim=config.IMAGE_MIN_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        max_dim=config.IMAGE_MAX_DIM,
        mode=config.IMAGE_RESIZE_MODE,
        shape=rectangle,
        rng=rng,
        exact=config.EXACT_RESIZE,
    )
    if from_boxes:
        return (
            image,
            resize_boxes(truth, scale, padding, crop, image.shape),
            class_ids,
            (original_shape, window, scale),
        )
    mask = resize_mask(truth, scale, padding, crop, exact=config.EXACT_RESIZE)
    return image, mask, class_ids, (original_shape, window, scale)


def _another(dataset, config, image_id, rng):
    """Image, masks and class ids of another image of the same source, of molded size; None where none is found."""
    for _ in range(TRIES):
        other = dataset.image_ids[int(rng.integers(len(dataset.image_ids)))]
        if (
            other == image_id
            or dataset.image_info[other]["source"] != dataset.image_info[image_id]["source"]
        ):
            continue
        try:
            image, truth, class_ids, _ = _load_resized(dataset, config, other, rng)
            return (
                image,
                boxes_to_masks(truth, image.shape) if truth.ndim == 2 else truth,
                class_ids,
            )
        except (ValueError, OSError):  # it is told of when its own turn comes
            continue
    return None


def _visible(mask, class_ids):
    """Masks, class ids and boxes of the instances that have a pixel left."""
    bbox = extract_bboxes(mask)
    visible = bbox[:, 2] > 0
    return (
        (mask, class_ids, bbox)
        if visible.all()
        else (mask[:, :, visible], class_ids[visible], bbox[visible])
    )


def _name(dataset, image_id) -> str:
    info = dataset.image_info[image_id]
    return f"image {image_id} ({info.get('path') or info.get('id')})"


def _load_mask(dataset, config, image_id, image_shape):
    """The masks `[H, W, N]` bool and class ids `[N]` int32 of an image, checked."""
    mask, class_ids = dataset.load_mask(image_id)
    mask, class_ids = np.asarray(mask), np.asarray(class_ids, dtype=np.int32).reshape(-1)
    name = _name(dataset, image_id)
    if len(class_ids) == 0 and (mask.size == 0 or not mask.any()):
        return np.zeros((*image_shape[:2], 0), dtype=bool), class_ids  # any empty shape will do
    if mask.ndim == 2:
        mask = mask[:, :, None]
    if mask.shape[:2] != image_shape[:2] or mask.shape[2] != len(class_ids):
        raise ValueError(
            f"load_mask must return masks [{image_shape[0]}, {image_shape[1]}, N] and N class ids for {name}. "
            f"Received: masks {mask.shape} and {len(class_ids)} class ids. "
            "Try the image's own height and width, and one id per mask."
        )
    real = _known_or_visible(class_ids, config, lambda wrong: mask[:, :, wrong].any(axis=(0, 1)))
    _check_class_ids(class_ids[real], config, name)
    return (mask if real.all() else mask[:, :, real]).astype(bool, copy=False), class_ids[real]


def _load_bbox(dataset, config, image_id, image_shape):
    """The boxes `[N, 4]` float and class ids `[N]` int32 of an image, checked."""
    boxes, class_ids = dataset.load_bbox(image_id)
    boxes, class_ids = (
        np.asarray(boxes, dtype=float),
        np.asarray(class_ids, dtype=np.int32).reshape(-1),
    )
    name = _name(dataset, image_id)
    if len(class_ids) == 0 and boxes.size == 0:
        return np.zeros((0, 4)), class_ids  # any empty shape will do
    if boxes.shape != (len(class_ids), 4) or not np.isfinite(boxes).all():
        raise ValueError(
            f"load_bbox must return boxes [N, (y1, x1, y2, x2)] and N class ids for {name}. Received: boxes "
            f"{boxes.shape} and {len(class_ids)} class ids. Try np.array(boxes).reshape(-1, 4), without nan."
        )
    turned = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if turned.any():
        raise ValueError(
            f"A box must be (y1, x1, y2, x2) with y1 <= y2 and x1 <= x2. Received: {boxes[turned][0].tolist()} for "
            f"{name}. Try x, y, width, height turned into y, x, y + height, x + width."
        )
    real = _known_or_visible(class_ids, config, lambda wrong: area(boxes[wrong]) > 0)
    _check_class_ids(class_ids[real], config, name)
    return boxes[real], class_ids[real]


def _is_unknown(class_ids, config) -> np.ndarray:
    """`[N]` bool: which class ids the network does not have."""
    return (np.abs(class_ids) < 1) | (np.abs(class_ids) >= config.NUM_CLASSES)


def _known_or_visible(class_ids, config, visible) -> np.ndarray:
    """`[N]` bool: False for instances of an unknown class that have no pixel.

    Scripts say "nothing here" by an empty mask of class 0: such an image is a negative, not a fault.

    visible: `visible(positions)` says which of those instances have a pixel; asked only if a class is unknown, because
    it reads whole masks.
    """
    real = np.ones(len(class_ids), bool)
    unknown = np.flatnonzero(_is_unknown(class_ids, config))
    if len(unknown):
        real[unknown] = visible(unknown)
    return real


def _check_class_ids(class_ids, config, name) -> None:
    wrong = sorted(set(class_ids[_is_unknown(class_ids, config)].tolist()))
    if wrong:
        raise ValueError(
            f"Class ids must lie in 1..{config.NUM_CLASSES - 1} (NUM_CLASSES - 1; negative for a crowd). "
            f"Received: {wrong} for {name}. Try the ids of Dataset.class_names, and NUM_CLASSES = 1 + your classes."
        )


def _augment(augmentation, image, mask, class_ids, another, rng):
    """Image, masks and class ids after augmentation; another: see `augment.py`."""
    shape = image.shape
    if hasattr(augmentation, "to_deterministic"):
        image, mask = _imgaug_augment(augmentation, image, mask, rng)
    elif _is_of_albumentations(augmentation):
        image, mask = _albumentations_augment(augmentation, image, mask, rng)
    elif callable(augmentation):
        rng = rng if rng is not None else np.random.default_rng()
        if getattr(augmentation, "pastes", False):
            image, mask, class_ids = augmentation(image, mask, rng, class_ids, another)
        else:
            image, mask = augmentation(image, mask, rng)
    else:
        raise TypeError(
            "augmentation must be an imgaug augmenter, an albumentations transform, or a callable "
            f"(image, masks, rng) -> (image, masks). Received: {augmentation!r}. Try imgaug.augmenters.Fliplr(0.5)."
        )
    if image.shape != shape or mask.shape != (*shape[:2], len(class_ids)):
        raise ValueError(
            f"Augmentation must keep the image's shape {shape}, and a mask for each of {len(class_ids)} instances. "
            f"Received: image {image.shape}, masks {mask.shape}. Try keep_size=True where the augmenter offers it, and "
            "an empty mask for an instance to drop."
        )
    return image, mask.astype(bool, copy=False), class_ids


def _imgaug_augment(augmentation, image, mask, rng):
    """Image and masks through the same draw; imgaug knows which of its augmenters move masks."""
    from imgaug.augmentables.segmaps import SegmentationMapsOnImage

    drawn = augmentation.to_deterministic()
    if rng is not None:
        drawn.seed_(int(rng.integers(2**31)), deterministic_too=True)
    image_after = drawn.augment_image(np.ascontiguousarray(image))
    if mask.shape[-1] == 0:
        return image_after, mask
    maps = SegmentationMapsOnImage(np.ascontiguousarray(mask), shape=image.shape)
    return image_after, drawn.augment_segmentation_maps(maps).get_arr()


def _is_of_albumentations(augmentation) -> bool:
    """Whether it is a transform of albumentations, which need not be installed."""
    return any(
        kind.__module__.partition(".")[0] == "albumentations" for kind in type(augmentation).__mro__
    )


def _albumentations_augment(augmentation, image, mask, rng):
    """Image and masks through one call of an albumentations transform; a copy of it draws from `rng`.

    Raises: TypeError if it asks for boxes or keypoints.
    """
    wanted = getattr(augmentation, "processors", None)
    if wanted:
        raise TypeError(
            "An albumentations transform must need the image and its masks only; boxes follow from the masks. "
            f"Received: one that asks for {', '.join(wanted)}. Try it without bbox_params and keypoint_params."
        )
    if rng is not None and hasattr(augmentation, "set_random_seed"):
        augmentation = copy.deepcopy(augmentation)  # several threads augment at once
        augmentation.set_random_seed(int(rng.integers(2**31)))
    image = np.ascontiguousarray(image)
    if mask.shape[2] == 0:
        after = augmentation(image=image)
        masks = mask
    else:
        after = augmentation(
            image=image, masks=list(np.ascontiguousarray(np.moveaxis(mask, -1, 0)).view(np.uint8))
        )
        masks = np.stack(after["masks"], axis=-1) != 0
    image = np.asarray(after["image"])
    return image[:, :, None] if image.ndim == 2 else image, masks


# --- Batches ----------------------------------------------------------------------------------------------------


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
        name = _name(self.dataset, image_id)
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
        return molded_photo(image, self.config)

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
