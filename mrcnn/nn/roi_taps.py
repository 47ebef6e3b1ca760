"""The cells that the bins of a RoI read along one axis of a feature map, and their weights.

Shape shorthand: N RoIs. Positions are in cells; integers are the centers of cells. A length is the
number of cells of the axis: an integer or a scalar tensor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from .keras_ops import ops

MOST_SAMPLES = 128  # per bin and axis; a diverged training has RoIs of any size


class Taps(NamedTuple):
    """What the bins of each RoI read along an axis: T cells at most.

    cells: `[N, bins, T]` int32, inside the map. weights: `[N, bins, T]` float32.
    counts: `[N]` int32, how many of the T the bins of a RoI need, the others have weight 0; None:
        all of them.
    """

    cells: Any
    weights: Any
    counts: Any = None


class Grids(NamedTuple):
    """Where RoIAlign samples RoIs: their first corners and their sides, `[N]` each."""

    y: Any
    x: Any
    height: Any
    width: Any


def sample_grids(rois: Any, is_aligned: bool) -> Grids:
    """`[N]` each: the first corners and the sides of the grids of RoIAlign.

    rois: `[N, 4]` in cells of the map: cell i reaches from i to i + 1.
    is_aligned: False, half a cell off and at least one cell a side (`Config.ROI_ALIGN`).
    """
    y1, x1, y2, x2 = ops.unstack(ops.cast(rois, "float32"), 4, axis=1)
    if is_aligned:
        return Grids(y1 - 0.5, x1 - 0.5, y2 - y1, x2 - x1)
    return Grids(y1, x1, ops.maximum(y2 - y1, 1.0), ops.maximum(x2 - x1, 1.0))


def sampled_taps(start: Any, side: Any, bins: int, samples: int, length: Any) -> Taps:
    """`[N, bins, 2 * samples]` the taps of a fixed number of samples per bin, in `keras.ops` only.

    start, side: `[N]`. length: also `[N, 1]`, if the RoIs belong to different maps.
    """
    step = side / (bins * samples)
    sample = ops.arange(bins * samples, dtype="float32") + 0.5
    cells, weights = _bilinear(start[:, None] + sample * step[:, None], length)
    shape = [-1, bins, 2 * samples]
    return Taps(ops.reshape(cells, shape), ops.reshape(weights / samples, shape))


def crop_taps(low: Any, high: Any, bins: int, length: Any) -> Taps:
    """`[N, bins, 2]` the taps of `crop_and_resize`: one sample per bin, the outer ones on the ends.

    low, high: `[N]` normalized ends of the RoIs. length: also `[N]`, if they belong to several
    maps.
    """
    last = ops.cast(length, "float32") - 1.0
    start, end = low * last, high * last
    if bins == 1:
        position = (0.5 * (start + end))[:, None]
    else:
        step = (high - low) * last / (bins - 1)
        position = start[:, None] + ops.arange(bins, dtype="float32") * step[:, None]
    last = (last + 0.0 * start)[:, None]  # [N, 1]
    is_inside = (position >= 0.0) & (position <= last)
    position = ops.where(is_inside, position, 0.0)
    below = ops.floor(position)
    weights = ops.stack([1.0 - position + below, position - below], axis=-1)
    weights = ops.where(is_inside[..., None], weights, 0.0)  # outside the map samples are 0
    cells = ops.stack([below, ops.minimum(below + 1.0, last)], axis=-1)
    return Taps(ops.cast(cells, "int32"), weights)


def adaptive_taps(start: Any, side: Any, bins: int, length: Any) -> Taps:
    """`[N, bins, T]` the taps of as many samples per bin as it has cells, rounded up.

    A RoI without a size has no samples, as in torch. start, side: `[N]`.
    """
    samples = tf.math.ceil(side / bins)
    samples = tf.where(samples > 0, samples, 0.0)  # NaN: 0
    samples = tf.minimum(samples, MOST_SAMPLES)[:, None, None]  # [N, 1, 1]
    sample = tf.range(tf.maximum(tf.reduce_max(samples), 1.0))  # [S]
    share = (sample + 0.5) / tf.maximum(samples, 1.0)  # [N, 1, S] of a bin
    share = tf.range(bins, dtype=tf.float32)[:, None] + share  # [N, bins, S]
    position = start[:, None, None] + share * (side / bins)[:, None, None]
    cells, weights = _bilinear(position, length)  # [N, bins, S, 2]
    weights = weights / tf.maximum(samples, 1.0)[:, :, :, None]
    weights = tf.where((sample < samples)[..., None], weights, 0.0)
    return _merged(cells, weights)


def dense_weights(taps: Taps, length: Any) -> tf.Tensor:
    """`[N, bins, length]` float32 the weight of each cell of the axis in each bin."""
    count, bins, most = tf.unstack(tf.shape(taps.cells))
    first = tf.reshape(tf.range(count * bins) * length, [count, bins, 1])
    places = tf.reshape(first + taps.cells, [count * bins * most])
    weights = tf.reshape(taps.weights, [count * bins * most])
    sums = tf.math.unsorted_segment_sum(weights, places, count * bins * length)
    return tf.reshape(sums, [count, bins, length])


def _bilinear(position, length):
    """`[..., 2]` the two cells next to each position `[...]`, and their weights.

    More than a cell outside the outermost centers the weights are 0; nearer positions have the
    value of the outermost cell. Those of NaN are 0.
    """
    last = ops.cast(length, "float32") - 1.0
    is_inside = (position >= -1.0) & (position <= last + 1.0)
    position = ops.minimum(ops.maximum(ops.where(is_inside, position, 0.0), 0.0), last)
    below = ops.floor(position)
    weights = ops.stack([1.0 - position + below, position - below], axis=-1)
    weights = ops.where(is_inside[..., None], weights, 0.0)
    cells = ops.stack([below, ops.minimum(below + 1.0, last)], axis=-1)
    return ops.cast(cells, "int32"), weights


def _merged(cells, weights) -> Taps:
    """Taps in which each cell of a bin comes once. cells, weights: `[N, bins, S, 2]`."""
    count, bins = tf.shape(cells)[0], cells.shape[1]
    is_used = weights > 0
    first = tf.reduce_min(tf.where(is_used, cells, tf.int32.max), axis=[2, 3])  # [N, bins]
    last = tf.reduce_max(tf.where(is_used, cells, -1), axis=[2, 3])
    first = tf.minimum(first, tf.maximum(last, 0))  # 0 for a bin without cells
    counts = tf.reduce_max(last - first + 1, axis=1)  # [N]
    most = tf.maximum(tf.reduce_max(counts), 1)
    slots = tf.clip_by_value(cells - first[:, :, None, None], 0, most - 1)
    rows = tf.reshape(tf.range(count * bins), [count, bins, 1, 1]) * most
    sums = tf.math.unsorted_segment_sum(weights, rows + slots, count * bins * most)
    window = tf.minimum(first[:, :, None] + tf.range(most), tf.reduce_max(cells))
    return Taps(window, tf.reshape(sums, [count, bins, most]), counts)


def integral_taps(low: Any, high: Any, bins: int, length: Any) -> Taps:
    """`[N, bins, T]` the taps of the mean of the linear interpolation over each bin.

    Cells outside the map count as 0; bins without a size have no weights.

    low, high: `[N]` float64, the ends of the RoIs.
    """
    side = tf.maximum(high - low, 0.0)
    share = tf.range(bins + 1, dtype=low.dtype) / bins
    edges = low[:, None] + share * side[:, None]  # [N, bins + 1]
    edges = tf.where(tf.math.is_finite(edges), edges, -2.0)  # no bin: outside, and without size
    floor = tf.cast(tf.clip_by_value(tf.floor(edges), -2.0, tf.cast(length, low.dtype)), tf.int32)
    first = tf.clip_by_value(floor[:, :-1], 0, length - 1)
    last = tf.clip_by_value(floor[:, 1:] + 1, 0, length - 1)
    counts = tf.reduce_max(last - first, axis=1) + 1  # [N]
    cells = first[:, :, None] + tf.range(tf.maximum(tf.reduce_max(counts), 1))  # [N, bins, T]
    centers = tf.cast(cells, low.dtype)
    upper = _hat_integral(edges[:, 1:, None] - centers)
    weights = upper - _hat_integral(edges[:, :-1, None] - centers)
    weights = tf.math.divide_no_nan(weights, (edges[:, 1:] - edges[:, :-1])[:, :, None])
    weights = tf.where(cells < length, tf.cast(weights, tf.float32), 0.0)
    return Taps(tf.minimum(cells, length - 1), weights, counts)


def _hat_integral(x):
    """`[...]` the integral up to x of max(0, 1 - |x|), the weight of a cell in an interpolation."""
    x = tf.clip_by_value(x, -1.0, 1.0)
    return 0.5 + x - 0.5 * x * tf.abs(x)
