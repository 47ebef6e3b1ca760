"""The ways to read a RoI from one feature map, besides matterport's `crop_and_resize`.

RoIAlign and precise RoI pooling are weighted sums of cells, so each is one product of a sparse
matrix with the map. On a CPU `tf.image.crop_and_resize` at the sample points and a mean take four
times as long, and its gradient five times.

Shape shorthand: B images, N RoIs, C channels, h and w the sides of the output. Boxes are
`(y1, x1, y2, x2)` in cells of the map: cell i reaches from i to i + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .roi_taps import Taps, adaptive_taps, integral_taps, sample_grids, sampled_taps
from .sparse_product import sparse_product


def aligned_roi_align(
    feature_map: Any, rois: Any, image_index: Any, size: Sequence[int], samples: int
) -> tf.Tensor:
    """`[N, h, w, C]` RoIAlign (Mask R-CNN, section 3), as detectron2's with aligned = True.

    feature_map: `[B, H, W, C]`. rois: `[N, 4]`, constants to the gradient.
    image_index: `[N]` the image of each RoI. size: `(h, w)`.
    samples: per bin and axis; 0: as many as the bin has cells, rounded up.
    """
    return _roi_align(feature_map, sample_grids(rois, True), image_index, size, samples)


def unaligned_roi_align(
    feature_map: Any, rois: Any, image_index: Any, size: Sequence[int], samples: int
) -> tf.Tensor:
    """`[N, h, w, C]` RoIAlign of torchvision's networks (aligned = False): half a cell off.

    The arguments are those of `aligned_roi_align`; a RoI has at least one cell a side.
    """
    return _roi_align(feature_map, sample_grids(rois, False), image_index, size, samples)


def precise_roi_pool(
    feature_map: Any, rois: Any, image_index: Any, size: Sequence[int], samples: int = 0
) -> tf.Tensor:
    """`[N, h, w, C]` means of the bilinear interpolation over each bin (Jiang 2018, equation 5).

    As in their code, cells outside the map are 0, the value of cell i is that of the point i (half
    a cell off), and bins without area give 0.

    The arguments are those of `aligned_roi_align`; samples is unused.
    """
    del samples
    rois = tf.cast(rois, tf.float64)  # a mean over a small bin is a small difference
    height, width = tf.unstack(tf.shape(feature_map)[1:3])
    rows = integral_taps(rois[:, 0], rois[:, 2], size[0], height)
    columns = integral_taps(rois[:, 1], rois[:, 3], size[1], width)
    return _weighted_sums(feature_map, image_index, rows, columns)


def max_roi_pool(
    feature_map: Any, rois: Any, image_index: Any, size: Sequence[int], samples: int = 0
) -> tf.Tensor:
    """`[N, h, w, C]` the largest value of each bin (RoI pooling, Fast R-CNN, section 2.1).

    RoIs and bins are rounded to whole cells as torchvision's `roi_pool` does it; bins without a
    cell give 0. The gradient goes to the first of equal maxima.

    The arguments are those of `aligned_roi_align`; samples is unused.
    """
    del samples
    feature_map = tf.cast(feature_map, tf.float32)
    rois = tf.cast(rois, tf.float32)
    batch, height, width, channels = tf.unstack(tf.shape(feature_map))
    rows = _whole_bins(rois[:, 0], rois[:, 2], size[0], height)
    columns = _whole_bins(rois[:, 1], rois[:, 3], size[1], width)
    first = tf.cast(image_index, tf.int32) * height * width  # [N] the image's first cell
    cells = tf.reshape(tf.stop_gradient(feature_map), [batch * height * width, channels])
    best = _best_cells(cells, width, first, rows, columns)  # [N, h, w, C]
    numbers = best * channels + tf.range(channels)  # into the flat map
    pooled = tf.gather(tf.reshape(feature_map, [-1]), numbers)
    is_empty = (rows.count == 0)[:, :, None] | (columns.count == 0)[:, None, :]  # [N, h, w]
    pooled = tf.where(is_empty[:, :, :, None], 0.0, pooled)
    return tf.ensure_shape(pooled, [None, *size, feature_map.shape[3]])


# Config.ROI_ALIGN -> function.
POOLINGS: dict[str, Callable] = {
    "aligned": aligned_roi_align,
    "unaligned": unaligned_roi_align,
    "precise": precise_roi_pool,
    "max": max_roi_pool,
}


# --- Weighted sums ---


def _roi_align(feature_map, grids, image_index, size, samples):
    """`[N, h, w, C]` means of bilinear samples. grids: see `sample_grids`."""
    height, width = tf.unstack(tf.shape(feature_map)[1:3])
    y, x, row_side, column_side = grids
    if samples:
        rows = sampled_taps(y, row_side, size[0], samples, height)
        columns = sampled_taps(x, column_side, size[1], samples, width)
    else:
        rows = adaptive_taps(y, row_side, size[0], height)
        columns = adaptive_taps(x, column_side, size[1], width)
    return _weighted_sums(feature_map, image_index, rows, columns)


def _weighted_sums(feature_map, image_index, rows: Taps, columns: Taps):
    """`[N, h, w, C]` the sums of a map's cells that the taps of both axes weight."""
    feature_map = tf.cast(feature_map, tf.float32)
    _, height, width, channels = tf.unstack(tf.shape(feature_map))
    first = tf.cast(image_index, tf.int32) * height * width  # [N] the image's first cell
    rows = rows._replace(cells=rows.cells * width + first[:, None, None])
    entries = _all_entries if rows.counts is None else _needed_entries
    bins, cells, weights = entries(rows, columns)
    indices = tf.cast(tf.stack([bins, cells], axis=1), tf.int64)
    count, size = tf.shape(rows.cells)[0], [rows.cells.shape[1], columns.cells.shape[1]]
    pooled = sparse_product(
        indices, weights, count * size[0] * size[1], tf.reshape(feature_map, [-1, channels])
    )
    return tf.ensure_shape(
        tf.reshape(pooled, [count, *size, channels]), [None, *size, feature_map.shape[3]]
    )


def _all_entries(rows: Taps, columns: Taps):
    """`[K]` each: bin, cell and weight of each pair of a row's and a column's tap."""
    cells = rows.cells[:, :, None, :, None] + columns.cells[:, None, :, None, :]
    weights = rows.weights[:, :, None, :, None] * columns.weights[:, None, :, None, :]
    size, per_bin = cells.shape[1:3], cells.shape[3] * cells.shape[4]
    bins = tf.range(tf.shape(cells)[0] * size[0] * size[1])
    return tf.repeat(bins, per_bin), tf.reshape(cells, [-1]), tf.reshape(weights, [-1])


def _needed_entries(rows: Taps, columns: Taps):
    """`_all_entries` without the taps that a RoI does not need: RoIs differ much in size."""
    count = tf.shape(rows.cells)[0]
    height, width = rows.cells.shape[1], columns.cells.shape[1]
    row_taps, column_taps = tf.shape(rows.cells)[2], tf.shape(columns.cells)[2]
    bins = tf.range(count * height * width)
    roi = bins // (height * width)
    bin_rows = (bins // width) * row_taps  # the first tap of a bin's row, in the flat taps
    bin_columns = (roi * width + bins % width) * column_taps
    per_row = tf.gather(columns.counts, roi)
    per_bin = tf.gather(rows.counts, roi) * per_row
    ends = tf.cumsum(per_bin)
    facts = tf.stack([bins, ends - per_bin, per_row, bin_rows, bin_columns], axis=1)
    facts = tf.repeat(facts, per_bin, axis=0)  # [K, 5]
    bins, starts, per_row, bin_rows, bin_columns = tf.unstack(facts, axis=1)
    tap = tf.range(tf.shape(bins)[0]) - starts
    row = tap // per_row
    column = bin_columns + tap - row * per_row
    row += bin_rows
    cells = _flat(rows.cells, row) + _flat(columns.cells, column)
    return bins, cells, _flat(rows.weights, row) * _flat(columns.weights, column)


def _flat(values, index):
    return tf.gather(tf.reshape(values, [-1]), index)


# --- Largest values ---


class _WholeBins(NamedTuple):
    """The cells of each bin along an axis, `[N, bins]` int32: the first one, and how many."""

    first: tf.Tensor
    count: tf.Tensor


def _whole_bins(low, high, bins, length) -> _WholeBins:
    """The bins of RoIs `[N]` between low and high, rounded to whole cells."""
    limit = 2.0**20  # of a diverged training: NaN and what no int32 holds
    low, high = (tf.clip_by_value(tf.where(x == x, x, -limit), -limit, limit) for x in (low, high))
    start, end = tf.floor(low + 0.5), tf.floor(high + 0.5)
    side = tf.maximum(end - start + 1.0, 1.0)[:, None]
    edge = tf.range(bins + 1, dtype=tf.float32) * (side / bins)  # [N, bins + 1]
    first = tf.cast(tf.floor(edge[:, :-1]) + start[:, None], tf.int32)
    after = tf.cast(tf.math.ceil(edge[:, 1:]) + start[:, None], tf.int32)
    first, after = tf.clip_by_value(first, 0, length), tf.clip_by_value(after, 0, length)
    return _WholeBins(tf.minimum(first, length - 1), tf.maximum(after - first, 0))


def _best_cells(cells, width, first, rows: _WholeBins, columns: _WholeBins):
    """`[N, h, w, C]` int32 the row of `cells` with the largest value in each bin and channel.

    cells: `[B * H * W, C]`. width: of the map. first: `[N]` the first cell of the RoI's image.
    """
    most_rows, most_columns = tf.reduce_max(rows.count), tf.reduce_max(columns.count)

    def candidates(step):
        """Each bin's cell of this step, its last one if it has fewer."""
        row = rows.first + tf.minimum(step // most_columns, tf.maximum(rows.count - 1, 0))
        column = columns.first + tf.minimum(step % most_columns, tf.maximum(columns.count - 1, 0))
        index = first[:, None, None] + row[:, :, None] * width + column[:, None, :]
        return index, tf.gather(cells, index)

    def keep_larger(step, best, largest):
        index, values = candidates(step)
        best = tf.where(values > largest, index[..., None], best)
        return step + 1, best, tf.maximum(values, largest)

    shape = [tf.shape(first)[0], rows.first.shape[1], columns.first.shape[1], tf.shape(cells)[1]]
    state = (tf.constant(0), tf.zeros(shape, tf.int32), tf.fill(shape, -np.inf))
    _, best, _ = tf.while_loop(lambda step, *_: step < most_rows * most_columns, keep_larger, state)
    return best
