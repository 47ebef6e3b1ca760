"""The Keras layers of the network, against Keras' own."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as KL
from tiny import TinyConfig, empty_batch_is_wrong, operation_types, passes_without_onednn

from mrcnn.nn import boxes, crop_and_resize, layers
from mrcnn.nn.anchors import pyramid_anchors
from mrcnn.nn.layers import BatchNorm, PyramidAnchors, RoIConv2D, RoIConv2DTranspose


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 3)]),
    st.integers(0, 3),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_convolution_and_its_gradients_equal_tensorflow(seed, sides, count, height, width):
    if count == 0 and empty_batch_is_wrong():
        assert passes_without_onednn(
            f"{__file__}::test_convolution_and_its_gradients_equal_tensorflow"
        )
        return
    rng = np.random.default_rng(seed)
    images = tf.constant(rng.normal(size=(count, height, width, 2)), tf.float32)
    kernel = tf.constant(rng.normal(size=(*sides, 2, 4)), tf.float32)
    weights = tf.constant(rng.normal(size=(count, height, width, 4)), tf.float32)
    found = []
    for convolve in (
        layers.convolution,
        lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"),
    ):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            convolved = convolve(images, kernel)
            total = tf.reduce_sum(convolved * weights)
        found.append((convolved, *tape.gradient(total, [images, kernel])))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("strides", [1, 2])
def test_wide_convolution_in_parts_equals_keras(monkeypatch, use_bias, strides):
    monkeypatch.setattr(layers, "wide_convolutions_are_slow", lambda: True)
    options = {"strides": strides, "padding": "same", "activation": "relu", "use_bias": use_bias}
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    ours = layers.SameConv2D(256, 3, bias_initializer="normal", **options)
    theirs = KL.Conv2D(256, 3, **options)
    outputs = ours(x)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(outputs, theirs(x), atol=1e-5)
    graph = tf.function(ours).get_concrete_function(x)
    assert "ConcatV2" in operation_types(graph)  # it was computed in parts


def test_input_gradient_is_a_convolution():
    """Three pixels in a row, a kernel of 1, 2, 3; the outputs have the weights 1, 10 and 100."""
    images, kernel = tf.zeros((1, 1, 3, 1)), tf.reshape(tf.constant([1.0, 2.0, 3.0]), (1, 3, 1, 1))

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(
                layers.convolution(images, kernel)[0, 0, :, 0] * [1.0, 10.0, 100.0]
            )
        return tape.gradient(total, images)

    # out[i] = 1 in[i - 1] + 2 in[i] + 3 in[i + 1]
    # in[0]: 2 * 1 + 1 * 10; in[1]: 3 * 1 + 2 * 10 + 1 * 100
    np.testing.assert_allclose(gradient(images)[0, 0, :, 0], [12, 123, 230])
    types = operation_types(gradient.get_concrete_function(images))
    assert "Conv2D" in types and "Conv2DBackpropInput" not in types


def test_graph_with_gradients_can_be_freed():
    @tf.function
    def step(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            x = layers.convolution(images, kernel)
            x = crop_and_resize.crop_and_resize(x, tf.constant([[0.0, 0.0, 1.0, 1.0]]), [0], (2, 2))
        return tape.gradient(x, kernel)

    graph = weakref.ref(
        step.get_concrete_function(tf.ones((1, 4, 4, 2)), tf.ones((3, 3, 2, 2))).graph
    )
    del step
    gc.collect()
    assert graph() is None


def test_batch_norm_called_with_training_false_fixes_its_statistics():
    image = keras.Input([4, 4, 3])
    told = BatchNorm(name="told")(image, training=False)
    outputs = [told, BatchNorm(name="free")(image), BatchNorm(False, name="own")(image)]
    network = keras.Model(image, outputs)
    network(np.full((2, 4, 4, 3), 9.0, np.float32), training=True)
    means = [np.array(network.get_layer(name).moving_mean) for name in ("told", "free", "own")]
    # momentum 0.99: the trained mean moves from 0 by a hundredth of 9
    np.testing.assert_allclose(means, [[0] * 3, [0.09] * 3, [0] * 3], rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, 6, 4, 5, 3)])  # images, RoIs
def test_batch_norm_equals_keras(shape, training):
    x = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    ours, keras_own = BatchNorm(epsilon=1e-3), KL.BatchNormalization(epsilon=1e-3)
    for _ in range(2):  # the second reads the statistics of the first
        np.testing.assert_allclose(
            ours(x, training=training), keras_own(x, training=training), rtol=1e-4, atol=1e-4
        )


def test_convolution_as_large_as_roi_is_a_matrix_product():
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 5, 6)).astype(np.float32)
    layer = RoIConv2D(7, (3, 5), activation="relu", bias_initializer="normal")
    pooled = layer(x)
    plain = KL.Conv2D(7, (3, 5), activation="relu")
    plain.build((None, 3, 5, 6))
    plain.set_weights(layer.get_weights())
    expected = plain(x.reshape(8, 3, 5, 6))
    np.testing.assert_allclose(pooled, np.reshape(expected, (2, 4, 1, 1, 7)), rtol=1e-5, atol=1e-6)
    assert not any(
        op.type == "Conv2D"
        for op in tf.function(layer).get_concrete_function(x).graph.get_operations()
    )


@pytest.mark.parametrize("rois", [(2, 3), (2, 0)])
@pytest.mark.parametrize(
    ("ours", "keras_own", "op"),
    [
        (
            lambda: RoIConv2D(4, 1, activation="sigmoid"),
            lambda: KL.Conv2D(4, 1, activation="sigmoid"),
            "MatMul",
        ),
        (
            lambda: RoIConv2D(4, 1, use_bias=False),
            lambda: KL.Conv2D(4, 1, use_bias=False),
            "MatMul",
        ),
        (lambda: RoIConv2D(4, 1, strides=2), lambda: KL.Conv2D(4, 1, strides=2), "Conv2D"),
        (
            lambda: RoIConv2D(4, 3, padding="same"),
            lambda: KL.Conv2D(4, 3, padding="same"),
            "Conv2D",
        ),
        (
            lambda: RoIConv2D(4, 2, padding="same"),
            lambda: KL.Conv2D(4, 2, padding="same"),
            "Conv2D",
        ),
        (
            lambda: RoIConv2DTranspose(4, 2, strides=2, activation="relu"),
            lambda: KL.Conv2DTranspose(4, 2, strides=2, activation="relu"),
            "MatMul",
        ),
        (
            lambda: RoIConv2DTranspose(4, (1, 3), strides=(1, 3), use_bias=False),
            lambda: KL.Conv2DTranspose(4, (1, 3), strides=(1, 3), use_bias=False),
            "MatMul",
        ),
        (
            lambda: RoIConv2DTranspose(4, 3, strides=2, padding="same"),
            lambda: KL.Conv2DTranspose(4, 3, strides=2, padding="same"),
            "Conv2DBackpropInput",
        ),
    ],
)
def test_roi_layer_equals_keras_with_gradients(ours, keras_own, op, rois):
    if 0 in rois and empty_batch_is_wrong():
        name = "test_roi_layer_equals_keras_with_gradients"
        assert passes_without_onednn(f"{__file__}::{name}")
        return
    x = tf.random.stateless_normal((*rois, 4, 5, 6), seed=(1, 2))
    ours, keras_own = ours(), keras_own()
    keras_own.build((None, 4, 5, 6))
    keras_own.set_weights(
        [np.random.default_rng(0).normal(size=w.shape) for w in keras_own.get_weights()]
    )
    ours.build((*rois, 4, 5, 6))
    ours.set_weights(keras_own.get_weights())
    found = []
    for layer, inputs in ((ours, x), (keras_own, tf.reshape(x, (-1, 4, 5, 6)))):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = layer(inputs)
            total = tf.reduce_sum(
                tf.reshape(y, [-1]) * tf.random.stateless_normal([tf.size(y)], seed=(3, 4))
            )
        found.append(
            [y, *tape.gradient(total, [inputs, *(w.value for w in layer.trainable_weights)])]
        )
    assert (
        found[0][0].shape == ours.compute_output_shape(x.shape) == (*rois, *found[1][0].shape[1:])
    )
    for tensor, same in zip(*found, strict=True):
        np.testing.assert_allclose(np.ravel(tensor), np.ravel(same), rtol=1e-4, atol=1e-4)
    graph = (
        tf.function(ours.__call__, autograph=False).get_concrete_function(x).graph.as_graph_def()
    )
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    assert op in {node.op for node in nodes}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (64, 192)])
def test_pyramid_anchors_layer_equals_numpy(shape, stride):
    config = TinyConfig(RPN_ANCHOR_STRIDE=stride, RPN_ANCHOR_RATIOS=[0.5, 1])
    sides = config.COMPUTE_BACKBONE_SHAPE(shape)
    found = PyramidAnchors(config)(
        [np.zeros((2, *shape, 3)), *(np.zeros((2, *side, 1)) for side in sides)]
    ).numpy()
    expected = boxes.normalize(pyramid_anchors(config, shape), shape)
    assert found.dtype == np.float32 and found.shape == (2, *expected.shape)
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-6)


def test_pyramid_anchors_layer_equals_numpy_without_a_pyramid():
    config = TinyConfig(BACKBONE_STRIDES=[16])
    found = PyramidAnchors(config)([np.zeros((1, 64, 96, 3)), np.zeros((1, 4, 6, 1))]).numpy()
    expected = boxes.normalize(pyramid_anchors(config, (64, 96)), (64, 96))
    assert expected.shape == (4 * 6 * 3 * 5, 4)
    np.testing.assert_allclose(found, [expected], atol=1e-6)


# --- torchvision's and detectron2's networks ---


@pytest.mark.parametrize("size", [(288, 544), (32, 64)])
@pytest.mark.parametrize("preset", ["torchvision", "detectron"])
def test_anchors_of_a_preset_equal_those_of_fixed_sizes(preset, size):
    config = getattr(TinyConfig, preset)()
    config.BACKBONE_STRIDES = [4, 8, 16, 32, 64]
    config.RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
    image = np.zeros((1, *size, 3), np.float32)
    pyramid = [np.zeros((1, *(-(-side // s) for side in size), 1)) for s in config.BACKBONE_STRIDES]
    normalized = PyramidAnchors(config)([image, *pyramid])
    found = boxes.to_pixels(normalized[0], size, config.CONTINUOUS_BOXES)
    expected = pyramid_anchors_of(config, size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def pyramid_anchors_of(config, size):
    """`[A, 4]` the NumPy form, with the sizes of a ResNet's pyramid."""
    config.BACKBONE = "resnet50"
    return pyramid_anchors(config, (*size, 3))


def channels_last(maps):
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("size", ["10x14", "11x13", "10x13"])
def test_transposed_convolution_equals_torch(torchvision_units, size):
    recorded = torchvision_units("layers")
    if f"x_{size}" not in recorded:
        pytest.skip("needs the shared reference data")
    layer = RoIConv2DTranspose(5, (2, 2), strides=2, use_bias=False)
    rois = channels_last(recorded[f"x_{size}"])[None]
    layer.build(rois.shape)
    layer.set_weights([recorded[f"d2_{size}"].transpose(2, 3, 1, 0)])
    expected = channels_last(recorded[f"deconv2_s2_{size}"])
    np.testing.assert_allclose(layer(rois)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("are_rois", [False, True])
def test_group_norm_equals_torch(torchvision_units, are_rois):
    recorded = torchvision_units("layers")
    x = channels_last(recorded["group_norm_x"])
    x = x[None] if are_rois else x
    inputs = keras.Input(x.shape[1:])
    config = TinyConfig(NORM_EPSILON=1e-5)
    network = keras.Model(inputs, layers.norm(inputs, "group", config, "gn"))
    network.get_layer("gn").set_weights([recorded["group_norm_w"], recorded["group_norm_b"]])
    found = np.asarray(network(x)).reshape(-1, *x.shape[-3:])
    expected = channels_last(recorded["group_norm_32"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4, 4, 8), (2, 1, 1, 8), (3, 5, 4, 8), (1, 64, 64, 64)])
def test_group_norm_equals_float64(shape):
    """Pixels far from 0, on whose squares float32 would lose digits."""
    x = np.random.default_rng(3).normal(30.0, 3.0, shape).astype(np.float32)
    layer = layers.GroupNorm(4, epsilon=1e-5)
    found = np.asarray(layer(x))
    rows = x.astype(float).reshape(shape[0], shape[1] * shape[2], 4, shape[3] // 4)
    mean, variance = (f(rows, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((rows - mean) / np.sqrt(variance + 1e-5)).reshape(shape)
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_group_norm_and_its_gradients_equal_keras():
    x = np.random.default_rng(4).normal(size=(2, 5, 6, 8)).astype(np.float32)
    results = []
    for kind in (layers.GroupNorm, KL.GroupNormalization):
        layer = kind(4, epsilon=1e-3)
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 8))
        layer.beta.assign(np.linspace(-1, 1, 8))
        with tf.GradientTape() as tape:
            inputs = tf.constant(x)
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs**3)
        sources = [inputs, layer.gamma.value, layer.beta.value]
        results.append([outputs, *tape.gradient(loss, sources)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_group_norm_of_even_pixels_is_its_shift_in_any_precision():
    layer = layers.GroupNorm(2, dtype="mixed_bfloat16", beta_initializer="ones")
    outputs = layer(np.full((1, 3, 3, 4), 7.0))
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_array_equal(np.asarray(outputs, np.float32), 1.0)


def test_frozen_batch_norm_is_a_constant():
    """x * gamma / sqrt(variance) + beta with an epsilon of 0, in training too."""
    layer = layers.FrozenBatchNorm(train_bn=False, epsilon=0.0)
    layer.trainable = True
    layer.build([None, 4, 4, 2])
    layer.set_weights(np.float32([[2.0, 3.0], [0.5, 0.0], [1.0, 2.0], [1e-6, 4.0]]))
    found = layer(np.full((1, 4, 4, 2), 3.0, np.float32), training=True)
    # (3 - 1) / 1e-3 * 2 + 0.5; (3 - 2) / 2 * 3
    np.testing.assert_allclose(found[0, 0, 0], [4000.5, 1.5], rtol=1e-5)
    assert layer.trainable_variables == []
    np.testing.assert_allclose(layer.moving_mean, [1, 2])


def test_batch_norm_has_the_statistics_of_the_counted_rois():
    """Padding changes neither the output of the others nor the moving averages."""
    rng = np.random.default_rng(0)
    rois = tf.constant(rng.normal(3, 2, (2, 3, 4, 4, 5)), tf.float32)
    mask = tf.constant([[True, True, False], [True, False, False]])
    whole, masked = BatchNorm(None, epsilon=1e-3), BatchNorm(None, epsilon=1e-3)
    some = tf.boolean_mask(rois, mask)[None]  # [1, 3, 4, 4, 5]
    expected = whole(some, training=True)
    found = masked(rois, training=True, counted=mask)
    np.testing.assert_allclose(tf.boolean_mask(found, mask)[None], expected, atol=1e-5)
    for ours, fused in zip(masked.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours, fused, rtol=1e-5, atol=1e-6)
    before = masked.get_weights()
    assert np.isfinite(masked(rois, training=True, counted=tf.zeros_like(mask))).all()
    for weight, value in zip(masked.get_weights(), before, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-6)
    np.testing.assert_array_equal(masked(rois, counted=mask), masked(rois))  # inference
