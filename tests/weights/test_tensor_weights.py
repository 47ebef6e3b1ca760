"""Files of torchvision's and detectron2's tensors, opened as weight files."""

import pickle

import keras
import numpy as np
import pytest

from mrcnn.nn.backbones import resnet_graph
from mrcnn.weights.loading import load_backbone_weights
from mrcnn.weights.opening import open_weights
from mrcnn.weights.torch_writing import write_torch

WIDTHS = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
BLOCKS = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}


def zeros(*shape):
    return np.zeros(shape, np.float32)


def head_tensors(classes, mask=True, second=False):
    """Return the tensors from which the config is found; the others do not matter."""
    tensors = {"backbone.body.conv1.weight": zeros(64, 3, 7, 7)}
    for i in range(6):
        tensors[f"backbone.body.layer3.{i}.conv1.weight"] = zeros(1, 1, 1, 1)
    tensors["backbone.fpn.layer_blocks.0.0.weight"] = zeros(256, 256, 3, 3)
    tensors["rpn.head.conv.0.0.weight"] = zeros(256, 256, 3, 3)
    if second:
        tensors["rpn.head.conv.1.0.weight"] = zeros(256, 256, 3, 3)
    tensors["roi_heads.box_predictor.cls_score.weight"] = zeros(classes, 1024)
    if mask:
        tensors["roi_heads.mask_head.0.0.weight"] = zeros(256, 256, 3, 3)
        tensors["roi_heads.mask_predictor.mask_fcn_logits.weight"] = zeros(classes, 256, 1, 1)
    return tensors


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_the_config_is_found_from_the_tensors(tmp_path, mask, second):
    path = tmp_path / "found.pth"
    write_torch(path, head_tensors(91, mask, second))
    with open_weights(path) as file:
        config, names = file.metadata["config"], file.metadata["class_names"]
        assert file.kind == "torchvision"
    assert config["BACKBONE"] == "resnet50" and config["NUM_CLASSES"] == 91
    assert config["USE_MASK"] is mask
    assert config["BOX_HEAD"] == ("4conv1fc" if second else "2fc")
    assert len(names) == 91 and names[18] == "dog"


def test_classes_of_another_data_set_have_no_names(tmp_path):
    path = tmp_path / "fine_tuned.pth"
    write_torch(path, head_tensors(3))
    with open_weights(path) as file:
        assert file.metadata["config"]["NUM_CLASSES"] == 3
        assert "class_names" not in file.metadata


def test_tensors_of_no_layer_keep_their_names(tmp_path):
    path = tmp_path / "other.pth"
    write_torch(path, {**head_tensors(2), "roi_heads.other_head.0.weight": zeros(2)})
    with open_weights(path) as file:
        assert "roi_heads.other_head.0.weight" in file.layers


def test_keypoints_are_found_from_the_tensors(tmp_path):
    path = tmp_path / "keypoints.pth"
    name = "roi_heads.keypoint_predictor.kps_score_lowres.weight"
    for count, names in ((17, ["BG", "person"]), (5, None)):
        tensors = {**head_tensors(2), name: zeros(8, count, 4, 4)}
        write_torch(path, tensors | {"roi_heads.keypoint_head.0.weight": zeros(8, 6, 3, 3)})
        with open_weights(path) as file:
            config = file.metadata["config"]
            assert config["NUM_KEYPOINTS"] == count and config["KEYPOINT_CHANNELS"] == 8
            assert file.metadata.get("class_names") == names
            assert (config["KEYPOINT_NAMES"] is None) == (names is None)
            deconv = dict(file.layers["mrcnn_keypoint_deconv"])
            assert deconv["mrcnn_keypoint_deconv/kernel:0"].shape == (4, 4, count, 8)


def test_another_network_is_refused(tmp_path):
    path = tmp_path / "vgg.pth"
    write_torch(path, {"features.0.weight": zeros(2, 3, 3, 3)})
    with pytest.raises(ValueError, match=r"Faster or Mask R-CNN with FPN.*features.0.weight"):
        open_weights(path)


def test_shapes_of_another_network_are_refused(tmp_path):
    path = tmp_path / "odd.pth"
    write_torch(path, {**head_tensors(2), "rpn.head.bbox_pred.weight": zeros(3, 256, 1, 1)})
    with pytest.raises(ValueError, match=r"must have the shapes of a Faster or Mask R-CNN"):
        open_weights(path)


def test_not_a_number_is_refused(tmp_path):
    path = tmp_path / "nan.pth"
    tensors = head_tensors(2)
    tensors["backbone.body.conv1.weight"][0, 0, 0, 0] = np.nan
    write_torch(path, tensors)
    with open_weights(path) as file, pytest.raises(ValueError, match="finite"):
        file.read(file.layers["conv1"][0][1], "float32")


# --- Backbones ---


def resnet_tensors(seed=0):
    """Return the tensors of a ResNet50 of torchvision, with its names."""
    rng = np.random.default_rng(seed)
    tensors = {"conv1.weight": rng.normal(size=(64, 3, 7, 7)).astype(np.float32)}

    def norm(module, width):
        for leaf in ("weight", "bias", "running_mean"):
            tensors[f"{module}.{leaf}"] = rng.normal(size=width).astype(np.float32)
        tensors[f"{module}.running_var"] = rng.uniform(1e-4, 1, width).astype(np.float32)

    norm("bn1", 64)
    channels = 64
    for stage, width in WIDTHS.items():
        for block in range(BLOCKS[stage]):
            module, middle = f"{stage}.{block}", width // 4
            shapes = [(middle, channels, 1, 1), (middle, middle, 3, 3), (width, middle, 1, 1)]
            for i, shape in enumerate(shapes, start=1):
                tensors[f"{module}.conv{i}.weight"] = zeros(*shape)
                norm(f"{module}.bn{i}", shape[0])
            if block == 0:
                tensors[f"{module}.downsample.0.weight"] = zeros(width, channels, 1, 1)
                norm(f"{module}.downsample.1", width)
            channels = width
    tensors["fc.weight"] = zeros(1000, 2048)
    return tensors


@pytest.fixture(scope="module")
def resnet():
    image = keras.Input([None, None, 3])
    return keras.Model(image, resnet_graph(image, "resnet50", stage5=True)[-1])


def test_a_resnet_of_torchvision_fits_matterports_backbone(tmp_path, resnet):
    """Its images are divided by a standard deviation, its epsilon is 1e-5, it has no biases."""
    tensors = resnet_tensors()
    path = tmp_path / "resnet50.pth"
    write_torch(path, tensors)
    report = load_backbone_weights(resnet, path, "resnet50")
    assert report.unused == ["backbone.body.fc.weight"]
    kernel, bias = resnet.get_layer("conv1").get_weights()
    # (x - mean) / 58.395 times k is (x - mean) times k / 58.395; red is the first channel
    np.testing.assert_allclose(
        kernel[1, 2, 0], tensors["conv1.weight"][:, 0, 1, 2] / 58.395, rtol=1e-5
    )
    assert not np.any(bias)
    gamma, _, _, variance = resnet.get_layer("bn_conv1").get_weights()
    wanted = tensors["bn1.weight"] / np.sqrt(tensors["bn1.running_var"] + 1e-5)
    np.testing.assert_allclose(gamma / np.sqrt(variance + 1e-3), wanted, rtol=1e-4)


def test_a_resnet_of_caffe2_reads_bgr(tmp_path, resnet):
    kernel = np.zeros((64, 3, 7, 7), np.float32)
    kernel[:, 2] = 5.0  # red, the last channel of BGR
    blobs = {"conv1_w": kernel, "res_conv1_bn_s": zeros(64), "res_conv1_bn_b": zeros(64)}
    names = {"downsample.0": "branch1_w", "downsample.1": "branch1_bn_s"}
    for name, value in resnet_tensors().items():
        stage, _, rest = name.partition(".")
        if not stage.startswith("layer") or not name.endswith(".weight"):
            continue
        block, _, part = rest.removesuffix(".weight").partition(".")
        kind = "w" if part.startswith("conv") else "bn_s"
        branch = names.get(part) or f"branch2{'abc'[int(part[-1]) - 1]}_{kind}"
        blob = f"res{int(stage[-1]) + 1}_{block}_{branch}"
        blobs[blob] = value
        if blob.endswith("bn_s"):
            blobs[blob.replace("bn_s", "bn_b")] = value
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    load_backbone_weights(resnet, path, "resnet50")
    loaded, _ = resnet.get_layer("conv1").get_weights()
    assert np.all(loaded[:, :, 0] == 5.0) and not np.any(loaded[:, :, 1:])
