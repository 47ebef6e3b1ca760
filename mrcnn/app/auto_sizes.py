"""--auto of `mrcnn train`: sizes of images and batch that suit the data and the memory."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from ..config import Config
from ..data.check_anchors import spread_evenly
from ..data.dataset import Dataset
from ..data.image_order import size_of_image
from .memory import StepMemory, memory_at_hand, step_memory

log = logging.getLogger("mrcnn")

IMAGES = 50  # whose sizes are read
SMALLEST, LARGEST, STEP = 256, 1024, 64  # sides, pixels
LARGEST_ON_CPU = 512  # a step on larger images takes many seconds
BATCHES_ON_GPU = (16, 8, 4, 2, 1)  # images
BATCHES_ON_CPU = (2, 1)
FEWEST_STEPS = 8  # of an epoch; a larger batch leaves fewer, unless it is Config's
USED_SHARE = 0.8  # of the memory at hand


class Sizes(NamedTuple):
    """The side of the images, the images of a batch, and the bytes of a step on them."""

    side: int
    batch: int
    bytes: float


def choose_sizes(config: Config, by_user: set[str], dataset: Dataset, has_gpu: bool) -> int | None:
    """Set IMAGE_MIN_DIM, IMAGE_MAX_DIM and IMAGES_PER_GPU, unless --config names them.

    Returns: the side in pixels at which to detect, if larger than that of the training.
    """
    names = {"IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_RESIZE_MODE"}
    chooses_side = config.IMAGE_RESIZE_MODE == "square" and not names & by_user
    wanted, larger = int(config.IMAGE_MAX_DIM), None
    if chooses_side:
        wanted, larger = wanted_sides(dataset, has_gpu)
    batches = BATCHES_ON_GPU if has_gpu else BATCHES_ON_CPU
    if "IMAGES_PER_GPU" in by_user:
        batches = (config.IMAGES_PER_GPU,)
    else:
        most = max(Config.IMAGES_PER_GPU, len(dataset.image_ids) // FEWEST_STEPS)
        batches = tuple(batch for batch in batches if batch <= most)
    available = memory_at_hand(has_gpu)
    if available is None:
        log.info("--auto: the memory of this machine is unknown; IMAGES_PER_GPU stays.")
        batches, available = (config.IMAGES_PER_GPU,), float("inf")
    smallest = min(SMALLEST, wanted) if chooses_side else wanted
    sizes = fitting_sizes(step_memory(config), available, wanted, smallest, batches)
    if chooses_side:
        config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = sizes.side
    config.IMAGES_PER_GPU = sizes.batch
    _log_choice(sizes, wanted, available, has_gpu)
    return larger


def wanted_sides(dataset: Dataset, has_gpu: bool) -> tuple[int, int | None]:
    """Return the side in pixels that shows most images at their own size, within limits.

    And the side at which to detect, if it should be larger; None if not.
    """
    some = spread_evenly(len(dataset.image_ids), IMAGES)
    sides = []
    for i in some:
        try:
            sides.append(max(size_of_image(dataset, int(dataset.image_ids[i]))))
        except (ValueError, OSError):  # the training reports it
            continue
    largest = LARGEST if has_gpu else LARGEST_ON_CPU
    if not sides:
        return largest, None
    multiple = -(-int(np.percentile(sides, 90)) // STEP) * STEP
    larger = min(multiple, largest * 3 // 2) if multiple > largest else None
    return int(np.clip(multiple, SMALLEST, largest)), larger


def fitting_sizes(
    memory: StepMemory, available: float, side: int, smallest: int, batches: tuple[int, ...]
) -> Sizes:
    """Return the largest batch that fits into memory, otherwise smaller images.

    available: bytes. side: wanted, pixels. smallest: side. batches: images, the largest first.
    """
    limit = USED_SHARE * available
    for batch in batches:
        if memory.of(batch, side) <= limit:
            return Sizes(side, batch, memory.of(batch, side))
    batch = batches[-1]
    while side - STEP >= smallest and memory.of(batch, side) > limit:
        side -= STEP
    return Sizes(side, batch, memory.of(batch, side))


def _log_choice(sizes: Sizes, wanted: int, available: float, has_gpu: bool) -> None:
    where = "of a GPU" if has_gpu else "of this machine"
    log.info(
        "--auto: images of %d px, %d a batch. A step takes about %.1f GB, and %.1f GB %s are free "
        "(--no-auto keeps the config's sizes).",
        sizes.side, sizes.batch, sizes.bytes / 1e9, available / 1e9, where,
    )  # fmt: skip
    if sizes.side < wanted:
        log.warning("--auto: for images of %d px there is not enough memory.", wanted)
    if sizes.bytes > USED_SHARE * available:
        log.warning("--auto: even these may not fit into memory; try a smaller BACKBONE.")
