"""Minimal filtering against TensorFlow's convolution, and where it is taken."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Squares, TinyConfig, shake

from mrcnn.model import MaskRCNN
from mrcnn.nn import layers, winograd


@pytest.fixture
def always(monkeypatch):
    """It is taken for any 3x3 kernel and image, in bands of four tiles, whatever this machine is."""
    monkeypatch.setattr(winograd, "NARROWEST", 1)
    monkeypatch.setattr(winograd, "LEAST", 1)
    monkeypatch.setattr(winograd, "BAND", 4)
    monkeypatch.setattr(winograd, "_without_onednn", lambda: True)
    winograd._traced_once.cache_clear()
    yield
    winograd._traced_once.cache_clear()


def test_a_row_by_hand():
    """Lavin and Gray, 4.1: two outputs of four inputs, by four products."""
    inputs, kernel = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0])
    before = winograd._before(tf.reshape(tf.constant(inputs), (1, 2, 2)))
    np.testing.assert_array_equal(
        tf.concat(before, 0)[:, 0], [-2, 5, 1, -2]
    )  # 1 - 3, 2 + 3, 3 - 2, 2 - 4
    matrices = np.array(winograd.G) @ kernel
    np.testing.assert_array_equal(
        matrices, [1, 55.5, 45.5, 100]
    )  # 1, 111 / 2, (1 - 10 + 100) / 2, 100
    products = [matrix * value for matrix, value in zip(matrices, before, strict=True)]
    first, second = winograd._after(*products)  # -2 + 277.5 + 45.5 and 277.5 - 45.5 + 200
    assert (float(first[0, 0]), float(second[0, 0])) == (321, 432)  # 1 + 20 + 300, 2 + 30 + 400


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_convolution_is_tensorflows(seed, count, height, width):
    """Of even and odd sides, in one band and in several."""
    rng = np.random.default_rng(seed)
    images = tf.constant(rng.normal(size=(count, height, width, 3)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 3, 5)), tf.float32)
    for band in (2, 4096):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(winograd, "BAND", band)
            np.testing.assert_allclose(
                winograd._convolution(images, kernel),
                tf.nn.conv2d(images, kernel, 1, "SAME"),
                rtol=0,
                atol=1e-4,
            )


def test_ops_convolution_takes_it(always):
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(2, 7, 6, 3)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 3, 5)), tf.float32)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([3, 3, 3, 5])]
    )
    def ours(images, kernel):
        with winograd.where_it_pays():
            return layers.convolution(images, kernel)

    np.testing.assert_allclose(
        ours(images, kernel), tf.nn.conv2d(images, kernel, 1, "SAME"), rtol=0, atol=1e-4
    )
    assert winograd._traced_once.cache_info().currsize == 1


def test_small_images_take_tensorflows(always, monkeypatch):
    images, kernel = tf.ones((1, 4, 4, 2)), tf.ones((3, 3, 2, 2))
    taken = []
    monkeypatch.setattr(winograd, "_convolution", lambda images, kernel: taken.append(1) or images)
    for least, expected in ((17, []), (16, [1])):
        taken.clear()
        monkeypatch.setattr(winograd, "LEAST", least)
        winograd._either_convolution(images, kernel)
        assert taken == expected


def test_it_is_taken_in_its_scope_alone_for_wide_float32_kernels(monkeypatch):
    monkeypatch.setattr(winograd, "_without_onednn", lambda: True)
    wide = tf.zeros((3, 3, 128, 128))
    assert not winograd.pays(wide)
    with winograd.where_it_pays():
        assert winograd.pays(wide)
        assert not winograd.pays(tf.zeros((3, 3, 64, 128)))
        assert not winograd.pays(tf.zeros((1, 1, 128, 128)))
        assert not winograd.pays(tf.cast(wide, tf.bfloat16))
        monkeypatch.setattr(winograd, "_without_onednn", lambda: False)
        assert not winograd.pays(wide)
    monkeypatch.setattr(winograd, "_without_onednn", lambda: True)
    with pytest.raises(KeyError), winograd.where_it_pays():
        raise KeyError
    assert not winograd.pays(wide)


def test_detect_finds_the_same(always, tmp_path, monkeypatch):
    """Of one batch, and with each kernel of the pyramid, the RPN and the mask head by it."""
    model = shake(MaskRCNN("inference", TinyConfig(), str(tmp_path)))
    photos = [Squares().load_image(i) for i in range(2)]
    found = model.detect(photos)
    kernels = []
    pays = winograd.pays
    monkeypatch.setattr(winograd, "pays", lambda kernel: kernels.append(pays(kernel)) and False)
    model.detector._compiled = {}
    for ours, plain in zip(found, model.detect(photos), strict=True):
        np.testing.assert_array_equal(ours["class_ids"], plain["class_ids"])
        np.testing.assert_allclose(ours["scores"], plain["scores"], rtol=0, atol=1e-5)
        assert np.abs(ours["rois"] - plain["rois"]).max() <= 1
    assert kernels == [True] * (4 + 5 + 4)  # P2..P5, the RPN on P2..P6, four of the mask head
