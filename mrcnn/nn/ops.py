"""The few image ops that need TensorFlow itself, one function each; all other tensor arithmetic is keras.ops."""

from __future__ import annotations

import functools

import tensorflow as tf

from . import winograd

# Each call of a tf.custom_gradient in a graph leaves an entry in TensorFlow's global registry, whose closure holds that
# graph, and so the weights, for ever. Here these calls stand in small graphs of their own, one for each kind of shapes,
# that get the weights as arguments.


def convolution(images, kernel):
    """`[B, H, W, filters]` the convolution of stride 1 and padding "same".

    The gradient with respect to the images is a convolution as well, with the kernel rotated by 180 degrees;
    TensorFlow's own op for it takes twice as long on a CPU without AVX-512. There, within `winograd.where_it_pays`,
    the convolution itself saves another third.
    images: `[B, H, W, C]`. kernel: `[h, w, C, filters]`, h and w odd.
    """
    if winograd.pays(kernel):
        return winograd.convolution(images, kernel)
    outputs = _convolution_graph(kernel.shape, kernel.dtype)(images, kernel)
    if not tf.executing_eagerly():
        outputs.set_shape([*images.shape[:3], kernel.shape[3]])
    return outputs


@functools.cache
def _convolution_graph(shape, dtype):
    @tf.custom_gradient
    def convolve(images, kernel):
        def gradients(outputs):
            height, width, channels, filters = shape
            rotated = tf.transpose(tf.reshape(kernel, [-1, channels, filters]), [0, 2, 1])
            rotated = tf.gather(
                rotated, range(height * width)[::-1]
            )  # `kernel[::-1, ::-1]` takes longer than the gain
            rotated = tf.reshape(rotated, [height, width, filters, channels])
            into_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=shape,
                out_backprop=outputs,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return tf.nn.conv2d(outputs, rotated, 1, "SAME"), into_kernel

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradients

    return _traced(
        convolve, tf.TensorSpec([None, None, None, shape[2]], dtype), tf.TensorSpec(shape, dtype)
    )


def crop_and_resize(images, boxes, box_indices, size):
    """`[N, height, width, channels]` float32: a bilinear crop of an image per box.

    images: `[B, H, W, channels]`. boxes: `[N, (y1, x1, y2, x2)]` normalised, no gradient flows into them.
    box_indices: `[N]` the image of each box. size: `(height, width)`.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.bfloat16:  # the kernel refuses it
        images = tf.cast(images, tf.float32)
    crops = _crop_graph(images.dtype, tuple(size))(
        images, tf.cast(boxes, tf.float32), tf.cast(box_indices, tf.int32)
    )
    return tf.ensure_shape(crops, [None, *size, images.shape[3]])


@functools.cache
def _crop_graph(dtype, size):
    @tf.custom_gradient
    def crop(images, boxes, box_indices):
        def gradients(crops):
            return _spread_crops(crops, boxes, box_indices, size, tf.shape(images)), None, None

        return tf.image.crop_and_resize(images, boxes, box_indices, size), gradients

    images = tf.TensorSpec([None, None, None, None], dtype)
    return _traced(crop, images, tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32))


def _traced(function, *signature):
    """The function as a graph that belongs to no device, strategy or outer graph, wherever it is called first."""
    with tf.init_scope():
        return tf.function(function, signature, autograph=False).get_concrete_function()


def _spread_crops(crops, boxes, box_indices, size, shape):
    """`[B, H, W, channels]` the gradient of `crop_and_resize`: what each crop's pixels took, given back and added up.

    TensorFlow's own kernel on CPUs lets several threads add to one pixel without a lock and so loses some of the
    additions, at random (tensorflow issue 42033): the gradients of one batch differed from call to call.
    """

    def samples(low, high, length, count):
        """`[N, count, 2]` the pixels on either side of each sample of an axis, and their shares in it."""
        last = tf.cast(length - 1, tf.float32)
        if count > 1:
            steps = tf.range(count, dtype=tf.float32) * ((high - low) * last / (count - 1))[:, None]
            position = (low * last)[:, None] + steps
        else:
            position = (0.5 * (low + high) * last)[:, None]
        below = tf.floor(position)
        shares = tf.stack([1 - position + below, position - below], axis=-1)
        shares = tf.where(
            ((position >= 0) & (position <= last))[..., None], shares, 0.0
        )  # outside the image is 0
        pixels = tf.cast(tf.stack([below, tf.math.ceil(position)], axis=-1), tf.int64)
        return tf.clip_by_value(pixels, 0, tf.cast(length, tf.int64) - 1), shares

    rows, row_shares = samples(boxes[:, 0], boxes[:, 2], shape[1], size[0])
    columns, column_shares = samples(boxes[:, 1], boxes[:, 3], shape[2], size[1])
    batch, height, width, channels = (tf.cast(length, tf.int64) for length in tf.unstack(shape))
    rows += (tf.cast(box_indices, tf.int64) * height)[:, None, None]
    pixels = (
        rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    )  # [N, height, width, 2, 2]
    shares = row_shares[:, :, None, :, None] * column_shares[:, None, :, None, :]
    pixels, crops = tf.reshape(pixels, [-1]), tf.reshape(tf.cast(crops, tf.float32), [-1, channels])
    count = tf.shape(crops, tf.int64)[0]
    spread = tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.stack([pixels, tf.repeat(tf.range(count), 4)], axis=1),
        a_values=tf.reshape(shares, [-1]),
        a_shape=[batch * height * width, count],
        b=crops,
    )
    return tf.reshape(spread, shape)


def non_max_suppression(boxes, scores, max_output, iou_threshold):
    """`[B, max_output]` int32 indices of the boxes kept, best first, and `[B]` int32 how many are valid.

    boxes: `[B, N, (y1, x1, y2, x2)]`. scores: `[B, N]`. The rest of each row of indices is 0.
    """

    def one_image(inputs):
        kept = tf.raw_ops.NonMaxSuppressionV4(
            boxes=inputs[0],
            scores=inputs[1],
            max_output_size=max_output,
            iou_threshold=iou_threshold,
            score_threshold=float("-inf"),
            pad_to_max_output_size=True,
        )
        return kept.selected_indices, kept.valid_outputs

    indices, valid = tf.map_fn(
        one_image,
        (tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)),
        fn_output_signature=(tf.int32, tf.int32),
    )
    return tf.ensure_shape(indices, [None, max_output]), valid


def class_non_max_suppression(boxes, class_ids, scores, num_classes, max_output, iou_threshold):
    """Per-class NMS, then the best of all classes: boxes `[B, K, 4]`, class ids `[B, K]`, scores `[B, K]`.

    boxes: `[B, N, (y1, x1, y2, x2)]`, clipped. class_ids: `[B, N]` the one class of each box.
    scores: `[B, N]`; a box with score 0 does not take part. Rows after the last are zeros.
    """
    per_class = scores[..., None] * tf.one_hot(
        class_ids, num_classes, dtype=scores.dtype
    )  # [B, N, classes]
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        per_class,
        max_output,
        max_output,
        iou_threshold,
        0.0,
        clip_boxes=False,
    )
    return kept.nmsed_boxes, kept.nmsed_classes, kept.nmsed_scores


def agnostic_non_max_suppression(boxes, class_ids, scores, max_output, iou_threshold):
    """`class_non_max_suppression` across the classes: a box is suppressed by a better one of any class."""
    kept, valid = non_max_suppression(boxes, scores, max_output, iou_threshold)
    boxes, class_ids, scores = (
        tf.gather(rows, kept, batch_dims=1) for rows in (boxes, class_ids, scores)
    )
    real = tf.cast((tf.range(max_output)[None] < valid[:, None]) & (scores > 0), scores.dtype)
    return boxes * real[..., None], tf.cast(class_ids, scores.dtype) * real, scores * real


def image_of_rois(rois):
    """`[B * N]` int32 the image of each of `[B, N, ...]` RoIs."""
    count = rois.shape[1] or tf.shape(rois)[1]
    return tf.range(tf.shape(rois)[0] * count) // count


def gather_rois_by_level(levels, count, pool):
    """`[N, ...]` the result of `pool(level, indices)` for the RoIs of each level, in the RoIs' own order.

    levels: `[N]` int32 in 0..count-1. pool: called once per level with the `[K]` int32 indices of its RoIs.
    """
    indices = [
        tf.cast(tf.reshape(tf.where(levels == level), [-1]), tf.int32) for level in range(count)
    ]
    return tf.dynamic_stitch(indices, [pool(level, chosen) for level, chosen in enumerate(indices)])
