"""First convolutions are fitted to the image channels."""

import numpy as np
import pytest
from toy_network import build, same, values

from mrcnn.weights.image_channels import adapt_channels
from mrcnn.weights.loading import load_weights
from mrcnn.weights.saving import save_weights


def test_adapt_channels_of_small_kernels():
    # one output, one pixel, RGB kernels 1, 2, 6: sum 9, mean 3
    rgb = np.float32([1, 2, 6]).reshape(1, 1, 3, 1)

    def adapted(kernel, channels):
        return adapt_channels(kernel, channels).ravel().tolist()

    assert adapted(rgb, 1) == [9]
    assert adapted(rgb, 2) == [4.5, 4.5]
    assert adapted(rgb, 4) == [1, 2, 6, 3]
    assert adapted(rgb, 5) == [1, 2, 6, 3, 3]
    rgbd = np.float32([1, 2, 6, 50]).reshape(1, 1, 4, 1)
    assert adapted(rgbd, 3) == [1, 2, 6]
    assert adapted(rgbd, 1) == [9]  # the fourth channel is not a colour
    grey = np.float32([9]).reshape(1, 1, 1, 1)
    assert adapted(grey, 3) == [3, 3, 3]


@pytest.mark.parametrize("in_file", [1, 3, 4])
@pytest.mark.parametrize("in_model", [1, 3, 4])
def test_conv1_is_fitted_to_the_image_channels(in_file, in_model, tmp_path):
    source, target = build(channels=in_file), build(channels=in_model, seed=1)
    report = load_weights(target, save_weights(source, tmp_path / "x.h5"))
    assert "conv1" in report.loaded
    if in_file == in_model:
        assert report.adapted == []
        assert same(values(target, "conv1"), values(source, "conv1"))
    else:
        assert report.adapted == [("conv1", (3, 3, in_file, 6), (3, 3, in_model, 6))]
        assert "fitted to the image channels" in str(report)
        expected = adapt_channels(values(source, "conv1")[0], in_model)
        assert same(values(target, "conv1"), [expected, values(source, "conv1")[1]])


@pytest.mark.parametrize(("in_file", "in_model"), [(3, 1), (1, 3)])
def test_grey_image_gives_the_same_result_as_its_rgb_copy(in_file, in_model, tmp_path):
    source, target = build(channels=in_file), build(channels=in_model, seed=1)
    load_weights(target, save_weights(source, tmp_path / "x.h5"))
    grey = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    copies = {1: grey, 3: np.repeat(grey, 3, axis=3)}
    for a, b in zip(source(copies[in_file]), target(copies[in_model]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # float32 sums in another order
