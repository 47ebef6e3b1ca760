"""Wide 3x3 convolutions by Winograd's minimal filtering, on CPUs where TensorFlow has no oneDNN.

F(2x2, 3x3) of Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), 4.1: a tile of 2 x 2 pixels
takes 16 products a channel, where the convolution takes 36. Their `G g G^T` turns a kernel into 16 matrices, `B^T d B`
the 4 x 4 pixels under a tile into the 16 values these see, `A^T m A` the 16 products into the tile. The rounding
stays that of float32.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools

import tensorflow as tf
from tensorflow.python.framework.test_util import IsMklEnabled

G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
NARROWEST = 128  # channels from which the fewer products outweigh the sums
LEAST = 8192  # pixels likewise
BAND = 1024  # tiles at once: each holds 16 values a channel; of all tiles together only B^T along the rows is held

_allowed = contextvars.ContextVar("winograd", default=False)


@contextlib.contextmanager
def where_it_pays():
    """Within, `ops.convolution` may take this way: for graphs that run on this machine and are not handed on."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def pays(kernel) -> bool:
    """Whether a convolution of this kernel, `[h, w, C, filters]`, takes less time here, of images large enough."""
    wide = (
        kernel.shape[:2] == (3, 3)
        and min(kernel.shape[2:]) >= NARROWEST
        and kernel.dtype == tf.float32
    )
    return wide and _allowed.get() and _without_onednn()


@functools.cache
def _without_onednn() -> bool:
    """Whether TensorFlow computes on a CPU by its own convolutions: oneDNN's and a GPU's are fast as they are."""
    return not IsMklEnabled() and not tf.config.list_physical_devices("GPU")


def convolution(images, kernel):
    """`[B, H, W, filters]` the convolution of stride 1 and padding "same"; small images take TensorFlow's.

    images: `[B, H, W, C]`. kernel: `[3, 3, C, filters]`.
    """
    outputs = _traced_once(_either_convolution, images.shape[3:], kernel.shape)(images, kernel)
    return tf.ensure_shape(outputs, [*images.shape[:3], kernel.shape[3]])


@functools.cache
def _traced_once(function, *shapes):
    """The function as one op, of images of any size: the same graph for all layers of as many channels.

    It is not put into the graphs that call it: TensorFlow would optimise it there again, for a second or two in all.
    """
    signature = [
        tf.TensorSpec(shape if len(shape) == 4 else [None, None, None, *shape]) for shape in shapes
    ]
    return tf.function(
        function, signature, autograph=False, experimental_attributes={"_noinline": True}
    )


def _either_convolution(images, kernel):
    return tf.cond(
        tf.size(images) >= LEAST * images.shape[3],
        lambda: _convolution(images, kernel),
        lambda: tf.nn.conv2d(images, kernel, 1, "SAME"),
    )


def _convolution(images, kernel):
    (channels, filters), g = kernel.shape[2:], tf.constant(G)
    matrices = tf.unstack(
        tf.einsum("ia,jb,abcf->jicf", g, g, kernel)
    )  # for each of four columns [4 rows, C, filters]
    batch, height, width, _ = tf.unstack(tf.shape(images))
    rows, columns = (height + 1) // 2, (width + 1) // 2  # of tiles
    before = _rows_before(images, rows, columns)

    def band(start, stop):
        pixels = tf.reshape(before[:, start:stop], [-1, columns + 1, 2, channels])
        tiles = [tf.reshape(column, [4, -1, channels]) for column in _before(pixels)]
        products = [tf.matmul(tile, matrix) for tile, matrix in zip(tiles, matrices, strict=True)]
        pixels = tf.stack(_after(*products), axis=2)  # [4, tiles, 2 columns, filters]
        pixels = tf.unstack(tf.reshape(pixels, [4, stop - start, 2 * columns * filters]))
        return tf.stack(_after(*pixels), axis=1)  # [rows of tiles, 2 rows, 2 * columns * filters]

    bands = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False)
    bands = _over_bands(
        lambda start, stop, bands: bands.write(bands.size(), band(start, stop)),
        bands,
        batch * rows,
        columns,
    )
    return tf.reshape(bands.concat(), [batch, 2 * rows, 2 * columns, filters])[:, :height, :width]


def _rows_before(images, rows, columns):
    """`[4, B * rows, (2 * columns + 2) * C]`: `B^T` along the rows of the images, with a rim of zeros."""
    batch, height, width, channels = tf.unstack(tf.shape(images))
    images = tf.pad(
        images, [(0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0)]
    )
    pixels = tf.reshape(images, [batch, rows + 1, 2, (2 * columns + 2) * channels])
    return tf.reshape(tf.stack(_before(pixels)), [4, batch * rows, (2 * columns + 2) * channels])


def _before(x):
    """`B^T`: four of `[N, tiles, ...]` from `[N, tiles + 1, 2, ...]`; a tile reads its own pair and the next one."""
    first, second, third, fourth = x[:, :-1, 0], x[:, :-1, 1], x[:, 1:, 0], x[:, 1:, 1]
    return first - third, second + third, third - second, second - fourth


def _after(first, second, third, fourth):
    """`A^T`: the two pixels of a tile."""
    return first + (second + third), second - third - fourth


def _over_bands(step, state, rows, columns):
    """The state after `state = step(start, stop, state)` for all bands of rows of tiles, one after the other."""
    size = tf.maximum(BAND // columns, 1)

    def body(start, state):
        stop = tf.minimum(start + size, rows)
        return stop, step(start, stop, state)

    return tf.while_loop(lambda start, _: start < rows, body, (0, state), parallel_iterations=1)[1]
