"""RoIAlign as one gather over all levels of a pyramid, in `keras.ops` only.

For exports and compilers that know no sparse matrices and no crop_and_resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .keras_ops import ops
from .roi_taps import sample_grids, sampled_taps


def gather_roi_align(
    pyramid: Sequence,
    rois: Any,
    levels: Any,
    image_index: Any,
    scales: Any,
    size: Sequence[int],
    samples: int,
    is_aligned: bool,
) -> Any:
    """`[N, h, w, C]` float32: RoIAlign, each RoI from its level.

    It takes (2 * samples)^2 times the memory of its result.

    pyramid: maps `[B, H, W, C]`. rois: `[N, 4]` in pixels, constants to the gradient.
    levels: `[N]` int32, into the pyramid. image_index: `[N]` int32, the image of each RoI.
    scales: `[levels, (y, x)]` cells per pixel. size: `(h, w)`. samples: per bin and axis.
    is_aligned: see `sample_grids`.
    """
    channels = pyramid[0].shape[-1]
    shapes = [ops.shape(level)[:3] for level in pyramid]
    # [N] each: height, width and first cell of the RoI's level.
    heights = ops.take(ops.stack([ops.cast(shape[1], "int32") for shape in shapes]), levels)
    widths = ops.take(ops.stack([ops.cast(shape[2], "int32") for shape in shapes]), levels)
    firsts = ops.take(_first_cells(shapes), levels) + image_index * heights * widths
    scale = ops.take(scales, levels, axis=0)  # [N, 2]
    grids = sample_grids(rois * ops.concatenate([scale, scale], axis=1), is_aligned)
    rows = sampled_taps(grids.y, grids.height, size[0], samples, heights[:, None])
    columns = sampled_taps(grids.x, grids.width, size[1], samples, widths[:, None])
    row_cells = rows.cells * widths[:, None, None] + firsts[:, None, None]
    cells = row_cells[:, :, None, :, None] + columns.cells[:, None, :, None, :]
    weights = rows.weights[:, :, None, :, None] * columns.weights[:, None, :, None, :]
    taps = (2 * samples) ** 2
    flat = [ops.reshape(ops.cast(level, "float32"), [-1, channels]) for level in pyramid]
    values = ops.take(
        ops.concatenate(flat), ops.reshape(cells, [-1, taps]), axis=0
    )  # [N * h * w, taps, C]
    pooled = ops.matmul(ops.reshape(weights, [-1, 1, taps]), values)
    return ops.reshape(pooled, [-1, *size, channels])


def _first_cells(shapes):
    """`[levels]` int32 the first cell of each level in all of them, one after another."""
    first, firsts = ops.cast(0, "int32"), []
    for batch, height, width in shapes:
        firsts.append(first)
        first = first + ops.cast(batch * height * width, "int32")
    return ops.stack(firsts)
