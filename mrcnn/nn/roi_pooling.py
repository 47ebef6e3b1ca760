"""The ways to read a RoI from one feature map, besides matterport's `crop_and_resize`.

Shape shorthand: B images, N RoIs, C channels, h and w the sides of the output. Boxes are
`(y1, x1, y2, x2)` in cells of the map: cell i reaches from i to i + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from .crop_and_resize import crop_and_resize

MOST_SAMPLES = 128  # per bin and axis; a diverged training has RoIs of any size


def aligned_roi_align(
    feature_map: Any, rois: Any, image_index: Any, size: Sequence[int], samples: int
) -> tf.Tensor:
    """`[N, h, w, C]` RoIAlign (Mask R-CNN, section 3), as detectron2's with aligned = True.

    feature_map: `[B, H, W, C]`. rois: `[N, 4]`, constants to the gradient.
    image_index: `[N]` the image of each RoI. size: `(h, w)`.
    samples: per bin and axis; 0: as many as the bin has cells, rounded up.
    """
    rois = rois - 0.5  # from edges of cells to their centers, where the values are
    return _sample(feature_map, rois[:, :2], rois[:, 2:] - rois[:, :2], image_index, size, samples)


def unaligned_roi_align(
    feature_map: Any, rois: Any, image_index: Any, size: Sequence[int], samples: int
) -> tf.Tensor:
    """`[N, h, w, C]` RoIAlign of torchvision's networks (aligned = False): half a cell off.

    The arguments are those of `aligned_roi_align`; a RoI has at least one cell a side.
    """
    sides = tf.maximum(rois[:, 2:] - rois[:, :2], 1.0)
    return _sample(feature_map, rois[:, :2], sides, image_index, size, samples)


def _sample(feature_map, starts, sides, image_index, size, samples):
    """`[N, h, w, C]` means of bilinear samples on a regular grid.

    starts, sides: `[N, (y, x)]`, in a system in which integers are the centers of cells. A sample
    more than a cell outside the outermost centers is 0; nearer ones have the outermost value.
    """
    feature_map = tf.pad(feature_map, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    if samples:
        return _grid_means(feature_map, starts, sides, image_index, size, [samples, samples])
    counts = tf.math.ceil(sides / tf.cast(size, tf.float32))  # [N, 2]
    counts = tf.cast(tf.clip_by_value(counts, 1.0, MOST_SAMPLES), tf.int32)

    def pool(grid, index):
        these = [tf.gather(x, index) for x in (starts, sides, image_index)]
        return _grid_means(feature_map, *these, size, tf.unstack(grid, 2))

    return _by_group(counts, pool, [None, *size, feature_map.shape[3]])


def _grid_means(padded, starts, sides, image_index, size, samples):
    """`[N, h, w, C]` from a map with one more cell on each side, with `samples` (rows, columns)."""
    rows, columns = size[0] * samples[0], size[1] * samples[1]
    step = sides / tf.cast([rows, columns], tf.float32)
    first = starts + 0.5 * step
    last = starts + sides - 0.5 * step
    scale = tf.cast(tf.shape(padded)[1:3] - 1, tf.float32)
    corners = tf.concat([(first + 1) / scale, (last + 1) / scale], axis=1)
    crops = crop_and_resize(padded, corners, image_index, tf.stack([rows, columns]))
    crops = tf.reshape(crops, [-1, size[0], samples[0], size[1], samples[1], padded.shape[3]])
    return tf.reduce_mean(crops, axis=[2, 4])


def _by_group(keys: tf.Tensor, pool: Callable, shape: list) -> tf.Tensor:
    """`[N, ...]` the results of `pool(key, indices)` for each different key, in order.

    keys: `[N, 2]` int32. shape: of a result, None for the number of RoIs.
    """
    code = keys[:, 0] * (MOST_SAMPLES + 1) + keys[:, 1]
    codes, group = tf.unique(code)
    count = tf.size(codes)
    order = tf.argsort(group, stable=True)
    results = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=shape)

    def step(i, results):
        index = tf.reshape(tf.where(group == i), [-1])
        key = tf.stack([codes[i] // (MOST_SAMPLES + 1), codes[i] % (MOST_SAMPLES + 1)])
        return i + 1, results.write(i, pool(key, index))

    _, results = tf.while_loop(lambda i, _: i < count, step, [0, results])
    pooled = tf.cond(count > 0, results.concat, lambda: tf.zeros([0, *shape[1:]]))
    return tf.gather(pooled, tf.math.invert_permutation(order))


# Config.ROI_ALIGN -> function.
POOLINGS: dict[str, Callable] = {
    "aligned": aligned_roi_align,
    "unaligned": unaligned_roi_align,
}
