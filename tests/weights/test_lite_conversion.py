"""The published weights of EfficientNet-Lite2, converted."""

import os

import h5py
import keras
import numpy as np
import pytest
from keras import layers as KL
from PIL import Image
from reference import efficientnet_lite as reference
from tiny import TinyConfig

from mrcnn.nn.efficientnet_lite import EPSILON, efficientnet_lite2_graph
from mrcnn.weights.imagenet import imagenet_weights
from mrcnn.weights.lite_conversion import backbone_layers, classifier_layers
from mrcnn.weights.tensor_files import read_tensors

NAME = "efficientnet-lite2-9656183e.pth"
TRAFFIC_LIGHT, CAB = 920, 468  # ImageNet's classes


def test_other_tensors_are_refused():
    with pytest.raises(ValueError, match="must hold an EfficientNet-Lite2.*_conv_stem.weight"):
        backbone_layers({"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})


def test_packaged_weights_are_float16_of_4_413_488_numbers():
    path = imagenet_weights("efficientnet_lite2")
    arrays = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None
        )
        assert sum(array.size for array in arrays) == 4_413_488
        assert {array.dtype for array in arrays} == {np.dtype(np.float16)}
    assert os.path.getsize(path) < 9_300_000


@pytest.fixture(scope="module")
def published(request):
    """The tensors of the published file, if EFFICIENTNET_LITE2 or the shared folder has it."""
    path = os.environ.get("EFFICIENTNET_LITE2")
    if path is None:
        path = request.getfixturevalue("shared") / "weights" / NAME
        if not path.is_file():
            pytest.skip(f"needs {NAME}: set EFFICIENTNET_LITE2 to its path")
    return dict(read_tensors(path).tensors)


@pytest.mark.slow
def test_packaged_weights_are_the_published_ones_rounded(published):
    with h5py.File(imagenet_weights("efficientnet_lite2")) as file:
        for name, weights in backbone_layers(published).items():
            for kind, array in weights.items():
                stored = file[f"{name}/{name}/{kind}:0"][()]
                np.testing.assert_array_equal(stored, array.astype(np.float16))


@pytest.fixture(scope="module")
def classifier(published):
    """The backbone with its published classifier; its outputs are those before the softmax."""
    image = keras.Input((260, 260, 3))
    c5 = efficientnet_lite2_graph(image, TinyConfig(BACKBONE="efficientnet_lite2"))[-1]
    x = KL.Conv2D(1280, 1, use_bias=False, name="top_conv")(c5)
    x = KL.BatchNormalization(epsilon=EPSILON, name="top_bn")(x)
    x = KL.GlobalAveragePooling2D()(KL.Activation("relu6")(x))
    network = keras.Model(image, KL.Dense(1000, name="predictions")(x))
    layers = {**backbone_layers(published), **classifier_layers(published)}
    assert {layer.name for layer in network.layers if layer.weights} == set(layers)
    for name, weights in layers.items():
        for variable in network.get_layer(name).weights:
            variable.assign(weights[variable.name])
    return network


def outputs(classifier, pixels):
    molded = (pixels - TinyConfig().MEAN_PIXEL).astype(np.float32)
    return classifier(molded[None], training=False).numpy()[0]


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "class_id", "score"),
    [
        ("12283150_12d37e6389_z.jpg", TRAFFIC_LIGHT, 0.452),
        ("25691390_f9944f61b5_z.jpg", CAB, 0.269),
    ],
)
def test_published_classifier_names_an_image_and_agrees_with_numpy(
    name, class_id, score, classifier, published, shared
):
    with Image.open(shared / "data" / "photos" / name) as image:
        pixels = np.asarray(image.convert("RGB").resize((260, 260), Image.Resampling.BICUBIC))
    found = outputs(classifier, pixels)
    expected = reference.logits(published, reference.feature_maps(published, pixels)[-1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(softmax(found), softmax(expected), rtol=0, atol=1e-5)
    assert found.argmax() == class_id
    assert softmax(found)[class_id] == pytest.approx(score, abs=0.001)
