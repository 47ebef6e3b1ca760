"""Heat maps by hand, and of a network."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import TinyConfig, noise_images, shake

from mrcnn.inference import heat_maps
from mrcnn.inference.preprocessing import Molded
from mrcnn.model import MaskRCNN

pytestmark = pytest.mark.usefixtures("eagerly")

# 64 x 64 with strides 4 to 64: 256 + 64 + 16 + 4 + 1 = 341 cells
CELLS = (256, 64, 16, 4, 1)


def molded(shape=(64, 64), window=(0, 0, 64, 64)):
    return Molded(np.zeros((64, 64, 3), np.float32), np.zeros(15), window, shape)


def test_map_of_scores_of_zero_is_zero():
    heat = heat_maps.heat_map(np.zeros(341 * 3), molded(), TinyConfig())
    assert heat.shape == (64, 64) and heat.dtype == np.float32 and not heat.any()


def test_one_anchor_is_a_peak_at_its_center():
    """The anchor of row 3 and column 5 of the level with stride 4 has its center at (12, 20)."""
    scores = np.zeros((341, 3), np.float32)
    scores[3 * 16 + 5, 1] = 0.8
    heat = heat_maps.heat_map(scores.ravel(), molded(), TinyConfig())
    # Four pixels touch the point; their centers are 0.5 / 4 cells away: 0.8 * (1 - 0.125)^2
    np.testing.assert_allclose(heat[11:13, 19:21], 0.8 * 0.875**2, rtol=1e-6)
    assert heat.max() == heat[12, 20]
    outside = heat.copy()
    outside[8:16, 16:24] = 0
    assert not outside.any()


def test_of_each_pixel_the_best_level_counts_and_the_border_repeats():
    levels = [np.full(cells * 3, 0.1 * i) for i, cells in enumerate(CELLS)]
    heat = heat_maps.heat_map(np.concatenate(levels), molded(), TinyConfig())
    np.testing.assert_allclose(heat, 0.4, rtol=1e-6)


def test_map_is_that_of_the_image_without_padding():
    """Rows 16 to 48 show an image of 16 x 32."""
    scores = np.zeros((341, 3), np.float32)
    scores[(24 // 4) * 16 + 32 // 4, 0] = 1  # its center, (24, 32), is (4, 16) in the image
    heat = heat_maps.heat_map(scores.ravel(), molded((16, 32), (16, 0, 48, 64)), TinyConfig())
    assert heat.shape == (16, 32)
    assert np.unravel_index(heat.argmax(), heat.shape) in [(3, 15), (4, 16), (3, 16), (4, 15)]


def test_anchors_of_every_second_cell():
    config = TinyConfig(RPN_ANCHOR_STRIDE=2, RPN_ANCHOR_SCALES=(8, 16))
    assert heat_maps.level_shapes(config, (64, 64, 3)).tolist() == [[8, 8], [4, 4]]
    heat = heat_maps.heat_map(np.full(80 * 3, 0.5), molded(), config)
    np.testing.assert_allclose(heat, 0.5, rtol=1e-6)


def test_network_without_scores_of_anchors_is_refused():
    network = SimpleNamespace(name="other", layers=[SimpleNamespace(name="x")])
    with pytest.raises(ValueError, match="needs a network with a layer rpn_class. Received: other"):
        heat_maps.anchor_scores(network)


@pytest.mark.parametrize("values", [{"RPN_OBJECTNESS": "sigmoid"}, {"RPN_ONLY": True}])
def test_map_of_a_network_has_the_best_objectness(values):
    model = shake(MaskRCNN("inference", TinyConfig(**values)))
    (image,) = noise_images(1, sizes=[(40, 90)])
    heat = model.heat_map(image)
    assert heat.shape == (40, 90) and heat.dtype == np.float32
    molded_images, metas, _ = model.mold_inputs([image])
    anchors = model.get_anchors(molded_images.shape[1:])
    outputs = model.keras_model([molded_images, metas, anchors[None]], training=False)
    best = float(outputs[-2][..., 1].numpy().max())  # rpn_class
    assert 0 < heat.max() <= best + 1e-6
    np.testing.assert_array_equal(model.detector.heat_map(image), heat)
