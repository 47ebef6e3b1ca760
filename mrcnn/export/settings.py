"""What an export is asked for: the images that a file accepts, its precision, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import ANY_SIZE_MODES, Config
from ..inference.exported_model import Shape

PRECISIONS = ("float32", "float16", "int8")
# float16 keeps kernels with fewer values in float32: they are the first ones of a network, whose
# rounding all others multiply (boxes of the packaged model `nuclei`: 0.0037 in place of 0.57 px).
LEAST_HALF_VALUES = 2**14
EXAMPLE_SIZE = (512, 512)  # in a message: height and width
# The ways to read a RoI that have a form in operations that every runtime knows.
PORTABLE_ALIGNS = ("crop_and_resize", "aligned", "unaligned")


def shape_of(
    config: Config, size: Sequence[int] | None, batch: int | None, images: Sequence[Any] = ()
) -> Shape:
    """Return the shape that a caller asks for.

    size: `(height, width)` of the images, or None for any size. images: arrays `[H, W, ...]`, whose
        size the message suggests.

    Raises: ValueError if the network's resize mode needs a size.
    """
    if size is not None:
        height, width = (int(side) for side in size)
        return Shape(batch, height, width)
    mode = config.IMAGE_RESIZE_MODE
    if mode in ANY_SIZE_MODES or mode == "crop":
        height, width = np.shape(images[0])[:2] if len(images) else EXAMPLE_SIZE
        raise ValueError(
            "An exported file of this network takes images of one size, although the network "
            f"itself takes images of any size (its IMAGE_RESIZE_MODE is {mode!r}). Received: no "
            f"size. Try --size {height} {width}, with the height and width of your images (in "
            f"Python size=({height}, {width})); images of another size need a file of their own."
        )
    return Shape(batch)


def check_network(config: Config, is_portable: bool) -> None:
    """Raise ValueError unless a network with these settings can be exported.

    is_portable: to a format without TensorFlow's own operations.
    """
    if config.RPN_ONLY:
        raise ValueError(
            "An export needs a network that knows classes. Received: RPN_ONLY = True. Try a "
            "network with heads."
        )
    if config.PRECISION != "float32":
        raise ValueError(
            "A network must compute in float32 to be exported. Received: PRECISION = "
            f"{config.PRECISION!r}. Try --config PRECISION=float32, and --precision float16."
        )
    if config.EXACT_RESIZE:
        raise ValueError(
            "An exported graph resizes images as OpenCV does. Received: EXACT_RESIZE = True. Try "
            "--config EXACT_RESIZE=False."
        )
    is_known = config.ROI_ALIGN in PORTABLE_ALIGNS
    if config.ROI_ALIGN != "crop_and_resize":
        is_known = is_known and config.ROI_ALIGN_SAMPLES > 0
    if is_portable and config.has_rpn() and not is_known:
        raise ValueError(
            "This format needs ROI_ALIGN crop_and_resize, or aligned or unaligned with a fixed "
            f"number of samples. Received: {config.ROI_ALIGN!r} with ROI_ALIGN_SAMPLES = "
            f"{config.ROI_ALIGN_SAMPLES}. Try --format saved_model, or --config "
            "ROI_ALIGN_SAMPLES=2, also at `mrcnn evaluate`."
        )


class Job(NamedTuple):
    """All that a writer of a format needs.

    source: a `graph.Source`. metadata: the description of the file.
    calibration: `[B, H, W, C]` uint8 images each, for int8.
    """

    source: Any
    shape: Shape
    precision: str
    metadata: dict[str, Any]
    calibration: Sequence[np.ndarray] = ()
