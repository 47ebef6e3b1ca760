"""RoIAlign as one gather over all levels of a pyramid, in `keras.ops` only.

For exports and compilers that know no sparse matrices and no crop_and_resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .keras_ops import ops
from .roi_taps import Taps, crop_taps, sample_grids, sampled_taps


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
    table = _cells_of_levels(pyramid, levels, image_index)
    scale = ops.take(scales, levels, axis=0)  # [N, 2]
    grids = sample_grids(rois * ops.concatenate([scale, scale], axis=1), is_aligned)
    rows = sampled_taps(grids.y, grids.height, size[0], samples, table.heights[:, None])
    columns = sampled_taps(grids.x, grids.width, size[1], samples, table.widths[:, None])
    cells, weights = _all_taps(table, rows, columns)
    values = ops.take(table.values, cells, axis=0)  # [N * h * w, taps, C]
    pooled = ops.matmul(weights[:, None], values)
    return ops.reshape(pooled, [-1, *size, pyramid[0].shape[-1]])


def gather_crops(
    pyramid: Sequence, rois: Any, levels: Any, image_index: Any, size: Sequence[int]
) -> Any:
    """`[N, h, w, C]` float32: `crop_and_resize` of each RoI from its level.

    pyramid: maps `[B, H, W, C]`. rois: `[N, (y1, x1, y2, x2)]` normalized.
    levels: `[N]` int32, into the pyramid. image_index: `[N]` int32, the image of each RoI.
    size: `(h, w)`.
    """
    table = _cells_of_levels(pyramid, levels, image_index)
    y1, x1, y2, x2 = ops.unstack(rois, 4, axis=1)
    rows = crop_taps(y1, y2, size[0], table.heights)
    columns = crop_taps(x1, x2, size[1], table.widths)
    cells, weights = _all_taps(table, rows, columns)
    pooled = 0.0
    for tap in range(cells.shape[1]):  # one by one, in a quarter of the memory
        pooled = pooled + ops.take(table.values, cells[:, tap], axis=0) * weights[:, tap, None]
    return ops.reshape(pooled, [-1, *size, pyramid[0].shape[-1]])


class _Table(NamedTuple):
    """The cells of all levels one after another, and where those of each RoI are."""

    values: Any  # [cells, C]
    heights: Any  # [N] int32, of the RoI's level
    widths: Any  # [N]
    firsts: Any  # [N] the first cell of the RoI's image on its level


def _cells_of_levels(pyramid, levels, image_index) -> _Table:
    shapes = [ops.shape(level)[:3] for level in pyramid]
    heights = ops.take(ops.stack([ops.cast(shape[1], "int32") for shape in shapes]), levels)
    widths = ops.take(ops.stack([ops.cast(shape[2], "int32") for shape in shapes]), levels)
    firsts = ops.take(_first_cells(shapes), levels) + image_index * heights * widths
    channels = pyramid[0].shape[-1]
    flat = [ops.reshape(ops.cast(level, "float32"), [-1, channels]) for level in pyramid]
    return _Table(ops.concatenate(flat), heights, widths, firsts)


def _all_taps(table: _Table, rows: Taps, columns: Taps):
    """`[N * h * w, taps]` the cells of each bin in the table, and their weights."""
    row_cells = rows.cells * table.widths[:, None, None] + table.firsts[:, None, None]
    cells = row_cells[:, :, None, :, None] + columns.cells[:, None, :, None, :]
    weights = rows.weights[:, :, None, :, None] * columns.weights[:, None, :, None, :]
    taps = rows.cells.shape[-1] * columns.cells.shape[-1]
    return ops.reshape(cells, [-1, taps]), ops.reshape(weights, [-1, taps])


def _first_cells(shapes):
    """`[levels]` int32 the first cell of each level in all of them, one after another."""
    first, firsts = ops.cast(0, "int32"), []
    for batch, height, width in shapes:
        firsts.append(first)
        first = first + ops.cast(batch * height * width, "int32")
    return ops.stack(firsts)
