"""ImageNet files of keras.applications."""

import h5py
import keras
import numpy as np
import pytest
from toy_network import kind_of, same, set_names, values

from mrcnn.weights.image_channels import adapt_channels
from mrcnn.weights.keras_applications import matterport_name
from mrcnn.weights.loading import load_backbone_weights
from mrcnn.weights.saving import save_weights

layers = keras.layers


OLD_NAMES = [
    "conv1",
    "bn_conv1",
    "res2a_branch2a",
    "bn2a_branch2a",
    "res2a_branch1",
    "bn2a_branch1",
]


NEW_NAMES = [
    "conv1_conv",
    "conv1_bn",
    "conv2_block1_1_conv",
    "conv2_block1_1_bn",
    "conv2_block1_0_conv",
    "conv2_block1_0_bn",
]


def build_resnet(names, epsilon, seed=0, more=(), channels=3):
    """The first layers of a ResNet, with batch-norm variances so small that epsilon matters."""
    image = keras.Input((8, 8, channels))
    x = layers.Conv2D(4, 3, name=names[0])(image)
    x = layers.BatchNormalization(epsilon=epsilon, name=names[1])(x)
    a = layers.Conv2D(5, 1, name=names[2])(x)
    a = layers.BatchNormalization(epsilon=epsilon, name=names[3])(a)
    b = layers.Conv2D(5, 1, name=names[4])(x)
    b = layers.BatchNormalization(epsilon=epsilon, name=names[5])(b)
    y = layers.Add(name="sum")([a, b])
    for name in more:
        y = layers.Conv2D(5, 1, name=name)(y)
    model = keras.Model(image, y)
    rng = np.random.default_rng(seed)
    model.set_weights(
        [rng.uniform(0.001, 0.02, w.shape).astype(np.float32) for w in model.get_weights()]
    )
    return model


def test_todays_resnet_file_gives_the_same_network_on_rgb_with_our_epsilon(tmp_path):
    released = build_resnet(NEW_NAMES, 1.001e-5)
    ours = build_resnet(OLD_NAMES, 1e-3, seed=1)
    path = save_weights(released, tmp_path / "notop.h5")
    report = load_backbone_weights(ours, path, "resnet50")
    assert sorted(report.loaded) == sorted(OLD_NAMES)
    assert report.unused == []
    rgb = np.random.default_rng(2).random((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(ours(rgb), released(rgb[..., ::-1]), rtol=1e-5, atol=1e-6)
    assert np.array_equal(values(ours, "conv1")[0], values(released, "conv1_conv")[0][:, :, ::-1])


@pytest.mark.parametrize("channels", [1, 4, 8])
@pytest.mark.parametrize("names", [OLD_NAMES, NEW_NAMES], ids=["2017", "today"])
def test_backbone_file_is_fitted_to_the_image_channels(names, channels, tmp_path):
    released = build_resnet(names, 1e-3)
    ours = build_resnet(OLD_NAMES, 1e-3, seed=1, channels=channels)
    path = save_weights(released, tmp_path / "notop.h5")
    report = load_backbone_weights(ours, path, "resnet50")
    assert report.adapted == [("conv1", (3, 3, 3, 4), (3, 3, channels, 4))]
    rgb = values(released, names[0])[0]
    rgb = rgb if names is OLD_NAMES else rgb[:, :, ::-1]  # today's files were trained on BGR
    np.testing.assert_array_equal(values(ours, "conv1")[0], adapt_channels(rgb, channels))


def test_resnet_file_with_names_of_2017_loads_unchanged(tmp_path):
    released, ours = build_resnet(OLD_NAMES, 1e-3), build_resnet(OLD_NAMES, 1e-3, seed=1)
    path = save_weights(released, tmp_path / "notop.h5")
    assert kind_of(path) == "backbone"
    load_backbone_weights(ours, path, "resnet50")
    assert same(ours.get_weights(), released.get_weights())


def test_shallower_and_deeper_resnet_are_refused(tmp_path):
    shallow = build_resnet(NEW_NAMES, 1.001e-5)
    deep = build_resnet(NEW_NAMES, 1.001e-5, more=["conv4_block7_1_conv"])
    old_deep = build_resnet(OLD_NAMES, 1e-3, more=["res4g_branch2a"])
    shallow_file = save_weights(shallow, tmp_path / "resnet50.h5")
    deep_file = save_weights(deep, tmp_path / "resnet101.h5")
    with pytest.raises(
        ValueError, match=r"All 7 .*resnet50.h5.*without 1 of them \(res4g_branch2a\)"
    ):
        load_backbone_weights(old_deep, shallow_file, "resnet101")
    with pytest.raises(ValueError, match=r"resnet101.h5' with 1 further layers \(res4g_branch2a\)"):
        load_backbone_weights(build_resnet(OLD_NAMES, 1e-3), deep_file, "resnet50")


def test_every_layer_of_resnet101_has_its_name_of_2017():
    new = ["conv1_conv", "conv1_bn"]
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 23, 3), strict=True):
        for block in range(1, blocks + 1):
            branches = (0, 1, 2, 3) if block == 1 else (1, 2, 3)
            new += [
                f"conv{stage}_block{block}_{i}_{kind}" for i in branches for kind in ("conv", "bn")
            ]
    old = [matterport_name(name) for name in new]
    assert len(set(old)) == len(new) == 2 * (1 + 33 * 3 + 4)
    for letter in "abcdefghijklmnopqrstuvw":
        assert {f"res4{letter}_branch2{c}" for c in "abc"} <= set(old)
    assert {"res2a_branch1", "bn5a_branch1", "bn4w_branch2c", "res3d_branch2b"} <= set(old)
    assert "res4x_branch2a" not in old
    assert matterport_name("predictions") is None


def test_blocks_of_resnet152_have_the_letters_of_its_backbone():
    names = [matterport_name(f"conv4_block{block}_1_conv") for block in (26, 27, 36)]
    assert names == ["res4z_branch2a", "res4aa_branch2a", "res4aj_branch2a"]


def test_names_strides_and_epsilon_of_keras_applications():
    network = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    with_weights = [layer for layer in network.layers if layer.weights]
    assert None not in [matterport_name(layer.name) for layer in with_weights]
    assert {layer.epsilon for layer in with_weights if hasattr(layer, "epsilon")} == {1.001e-5}
    # the stride is in the first 1x1 convolution, as in matterport's network
    assert network.get_layer("conv3_block1_1_conv").strides == (2, 2)
    assert network.get_layer("conv3_block1_2_conv").strides == (1, 1)


def test_vgg_file_gives_the_same_network_on_rgb(tmp_path):
    image = keras.Input((8, 8, 3))
    released = keras.Model(image, layers.Conv2D(4, 3, name="block1_conv1")(image))
    ours = keras.Model(image, layers.Conv2D(4, 3, name="block1_conv1")(image))
    # Positive integers: the sums are exact in any order of the channels.
    rng = np.random.default_rng(2)
    released.set_weights([rng.integers(1, 4, w.shape) for w in released.get_weights()])
    path = save_weights(released, tmp_path / "notop.h5")
    report = load_backbone_weights(ours, path, "vgg16")
    assert report.loaded == ["block1_conv1"]
    kernel, bias = values(released, "block1_conv1")
    assert same(values(ours, "block1_conv1"), [kernel[:, :, ::-1], bias])
    rgb = rng.integers(1, 256, (1, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(rgb), released(rgb[..., ::-1]), rtol=1e-6)


def test_file_with_nested_models_and_the_last_layers_of_a_classifier(tmp_path):
    """ConvNeXt's stem is a model in the network; our backbone has no norm after C5."""

    def build(has_top):
        image = keras.Input((8, 8, 3))
        stem = keras.Sequential([layers.Conv2D(4, 4, name="stem_conv")], name="stem")
        x = layers.Conv2D(4, 3, name="stage")(stem(image))
        return keras.Model(image, layers.LayerNormalization(name="top")(x) if has_top else x)

    released, ours = build(True), build(False)
    path = save_weights(released, tmp_path / "notop.h5")
    report = load_backbone_weights(ours, path, "convnext_tiny")
    assert (report.loaded, report.unused) == (["stem_conv", "stage"], [])
    assert same(ours.get_weights(), released.get_weights()[:4])


def test_file_of_another_network_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    other = keras.Model(image, layers.Conv2D(4, 3, name="block1_conv1")(image))
    ours = keras.Model(image, layers.Conv2D(4, 3, name="stem_conv")(image))
    path = save_weights(other, tmp_path / "vgg.h5")
    with pytest.raises(ValueError, match="no layer matched: the file has block1_conv1"):
        load_backbone_weights(ours, path, "efficientnet_v2_s")


def test_mobilenet_loads_from_a_keras_3_file(shared):
    path = shared / "weights/mobilenetv2_1.00_imagenet_notop_dequant.weights.h5"
    assert kind_of(path) == "backbone"
    ours = keras.applications.MobileNetV2(input_shape=(64, 64, 1), include_top=False, weights=None)
    report = load_backbone_weights(ours, path, "mobilenet_v2")
    assert not (report.missing or report.mismatched or report.unused)
    with h5py.File(path) as file:
        stored = {group["vars"].attrs["name"]: group["vars"] for group in file["layers"].values()}
        batch_norm = [stored["block_16_project_BN"][str(i)][()] for i in range(4)]
        rgb = stored["Conv1"]["0"][()]
    assert same(values(ours, "block_16_project_BN"), batch_norm)
    assert report.adapted == [("Conv1", (3, 3, 3, 32), (3, 3, 1, 32))]
    np.testing.assert_array_equal(values(ours, "Conv1")[0], rgb.sum(axis=2, keepdims=True))


@pytest.fixture(scope="module")
def mobilenet():
    return keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)


def test_mobilenet_loads_from_a_keras_2_file_with_any_layer_names(mobilenet, tmp_path):
    path = save_weights(mobilenet, tmp_path / "notop.h5")
    with h5py.File(path, "r+") as file:
        names = {n.decode(): f"old_{n.decode()}" for n in file.attrs["layer_names"]}
        set_names(file, "layer_names", list(names.values()))
        for old, new in names.items():
            file.move(old, new)
    for given in (path, save_weights(mobilenet, tmp_path / "same_names.h5")):
        ours = keras.applications.MobileNetV2(
            input_shape=(32, 32, 3), include_top=False, weights=None
        )
        report = load_backbone_weights(ours, given, "mobilenet_v2")
        assert not (report.missing or report.mismatched or report.unused)
        assert same(ours.get_weights(), mobilenet.get_weights())


def test_file_of_another_network_is_not_a_mobilenet(mobilenet, path):
    with pytest.raises(
        ValueError, match="must hold keras.applications.MobileNetV2.*toy_0001.h5.*conv1, bn_conv1"
    ):
        load_backbone_weights(mobilenet, path, "mobilenet_v2")
