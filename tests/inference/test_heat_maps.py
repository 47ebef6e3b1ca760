"""Heat maps by hand, and of a network."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import TinyConfig, noise_images, shake, tiny_config

from mrcnn.config import Config
from mrcnn.detection_model import model_class
from mrcnn.inference import heat_maps
from mrcnn.inference.preprocessing import Molded

pytestmark = pytest.mark.usefixtures("eagerly")

# 64 x 64 with strides 4 to 64: 256 + 64 + 16 + 4 + 1 = 341 cells
CELLS = (256, 64, 16, 4, 1)


def molded(shape=(64, 64), window=(0, 0, 64, 64)):
    return Molded(np.zeros((64, 64, 3), np.float32), np.zeros(15), window, shape)


def maps_of(scores, config=None, **image):
    """The maps of 64 x 64 pixels, in the order of the levels."""
    found = heat_maps.heat_maps(np.ravel(scores), molded(**image), config or TinyConfig())
    return list(found.values())


def test_maps_of_scores_of_zero_are_zero():
    maps = heat_maps.heat_maps(np.zeros(341 * 3), molded(), TinyConfig())
    sides = (8, 16, 32, 48, 64)
    assert list(maps) == [f"P{i}, anchors of {side} px" for i, side in enumerate(sides, start=2)]
    for heat in maps.values():
        assert heat.shape == (64, 64) and heat.dtype == np.float32 and not heat.any()


def test_one_anchor_is_a_peak_at_its_center():
    """The anchor of row 3 and column 5 of the level with stride 4 has its center at (12, 20)."""
    scores = np.zeros((341, 3), np.float32)
    scores[3 * 16 + 5, 1] = 0.8
    heat, *others = maps_of(scores)
    # Four pixels touch the point; their centers are 0.5 / 4 cells away: 0.8 * (1 - 0.125)^2
    np.testing.assert_allclose(heat[11:13, 19:21], 0.8 * 0.875**2, rtol=1e-6)
    assert heat.max() == heat[12, 20]
    outside = heat.copy()
    outside[8:16, 16:24] = 0
    assert not outside.any() and not np.any(others)


def test_each_level_has_its_own_map_and_the_border_repeats():
    levels = [np.full(cells * 3, 0.1 * i) for i, cells in enumerate(CELLS)]
    for i, heat in enumerate(maps_of(np.concatenate(levels))):
        np.testing.assert_allclose(heat, 0.1 * i, rtol=1e-6)


def test_map_is_that_of_the_image_without_padding():
    """Rows 16 to 48 show an image of 16 x 32."""
    scores = np.zeros((341, 3), np.float32)
    scores[(24 // 4) * 16 + 32 // 4, 0] = 1  # its center, (24, 32), is (4, 16) in the image
    heat, *_ = maps_of(scores, shape=(16, 32), window=(16, 0, 48, 64))
    assert heat.shape == (16, 32)
    assert np.unravel_index(heat.argmax(), heat.shape) in [(3, 15), (4, 16), (3, 16), (4, 15)]


def test_anchors_of_every_second_cell():
    config = TinyConfig(RPN_ANCHOR_STRIDE=2, RPN_ANCHOR_SCALES=(8, 16))
    assert heat_maps.level_shapes(config, (64, 64, 3)).tolist() == [[8, 8], [4, 4]]
    for heat in maps_of(np.full(80 * 3, 0.5), config):
        np.testing.assert_allclose(heat, 0.5, rtol=1e-6)


def test_names_of_levels_follow_from_the_network():
    config = TinyConfig(BACKBONE_STRIDES=[16], RPN_ANCHOR_SCALES=(32, 64))
    assert heat_maps.level_names(config) == ["C4, anchors of 32 to 64 px"]
    retinanet = heat_maps.level_names(Config.retinanet())
    assert retinanet[0] == "P3, anchors of 32 to 50 px" and len(retinanet) == 5
    # Its anchors are only the unit of distances.
    assert heat_maps.level_names(Config.fcos()) == ["P3", "P4", "P5", "P6", "P7"]


# --- Scores ---


def test_scores_of_logits_are_those_of_the_best_class_with_the_centerness():
    """Probabilities 0.5 and 0.2 of the classes, and of the background, which does not count."""
    logits = np.log([[[9.0, 1.0, 0.25]]]).astype(np.float32)
    outputs = {"class_logits": logits}
    np.testing.assert_allclose(heat_maps.anchor_scores(outputs), [[0.5]], rtol=1e-6)
    outputs["centerness"] = np.zeros((1, 1, 1), np.float32)  # probability 0.5: sqrt(0.5 * 0.5)
    np.testing.assert_allclose(heat_maps.anchor_scores(outputs), [[0.5]], rtol=1e-6)
    outputs["centerness"] += np.float32(np.log(0.02 / 0.98))  # sqrt(0.5 * 0.02) = 0.1
    np.testing.assert_allclose(heat_maps.anchor_scores(outputs), [[0.1]], rtol=1e-5)


def test_network_without_scores_of_anchors_is_refused():
    network = SimpleNamespace(name="other", layers=[SimpleNamespace(name="x")])
    sentence = "needs a network with a layer rpn_class or class_logits. Received: other"
    with pytest.raises(ValueError, match=sentence):
        heat_maps.anchor_outputs(network)


@pytest.mark.parametrize(
    "kind, values",
    [
        ("mask_rcnn", {"RPN_OBJECTNESS": "sigmoid"}),
        ("mask_rcnn", {"RPN_ONLY": True}),
        ("retinanet", {}),
        ("fcos", {}),
    ],
)
def test_maps_of_a_network_have_the_best_scores(kind, values):
    config = tiny_config(kind, **values)
    model = shake(model_class(config)("inference", config))
    (image,) = noise_images(1, sizes=[(40, 90)])
    maps = model.heat_maps(image)
    assert len(maps) == 5
    for heat in maps.values():
        assert heat.shape == (40, 90) and heat.dtype == np.float32
    (molded_image,) = model.mold_images([image])
    inputs = [molded_image.image[None], molded_image.meta[None]]
    anchors = model.get_anchors(molded_image.image.shape)
    outputs = model.keras_model([*inputs, anchors[None]], training=False)
    # rpn_class, or the best score of each class
    best = np.max(outputs[1][..., 1:] if kind != "mask_rcnn" else outputs[-2][..., 1])
    assert 0 < np.max(list(maps.values())) <= best + 1e-6
    for heat, same in zip(maps.values(), model.detector.heat_maps(image).values(), strict=True):
        np.testing.assert_array_equal(heat, same)
