"""Small networks behind the server: the answers are those of `detect`, also after a reload."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_detector import png
from serving import running, wait_until
from tiny import build, noise_images

from mrcnn.weights.opening import read_metadata

pytestmark = pytest.mark.usefixtures("extra")

SIZES = ((64, 64), (40, 80), (90, 70))


class TinyLoader:
    """Serves a tiny network, whose backbone is a function of the tests and in no weight file."""

    def __init__(self, model):
        self.model = model
        self.loads = 0

    def load(self, weights):
        self.loads += 1
        self.model.load_weights(weights)
        return self.model

    def describe(self, weights):
        return read_metadata(weights)


def expected(model, image):
    """What the server answers for an image, from `detect` of the same network."""
    content = model.detect([image])[0].to_dict()
    return json.loads(json.dumps(content))


def assert_same(found, expected):
    """Compare the entries of two images; scores are computed in another batch."""
    assert (found["width"], found["height"]) == (expected["width"], expected["height"])
    assert len(found["detections"]) == len(expected["detections"]) > 0
    for one, other in zip(found["detections"], expected["detections"], strict=True):
        assert set(one) == set(other) and one["class_name"] == other["class_name"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        np.testing.assert_allclose(one["box"], other["box"], atol=1)


def ask(client, image):
    status, _, content = client.detect(("a.png", png(image)))
    assert status == 200
    return content["images"][0]


@pytest.fixture
def tiny(tmp_path):
    """Function: a tiny network of a kind and a seed, and its weight file."""

    def make(kind, seed=0):
        model = build(kind, seed=seed)
        model.class_names = ["BG", "light", "dark"]
        path = tmp_path / f"{kind}_{seed}.h5"
        model.save_weights(path)
        return model, path

    return make


# Of networks without masks one is enough.
@pytest.mark.parametrize("kind", ["mask_rcnn", "keypoints", "fcos"])
def test_answers_are_those_of_detect(kind, tiny):
    model, path = tiny(kind)
    images = noise_images(3, sizes=SIZES)
    with (
        running([("tiny", str(path))], TinyLoader(model)) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = list(pool.map(lambda image: ask(client, image), images))
        for format in ("coco", "labelme", "png"):
            assert client.detect(("a.png", png(images[0])), query=f"?format={format}")[0] == 200
    for found, image in zip(answers, images, strict=True):
        assert_same(found, expected(model, image))


def test_newer_weights_of_the_same_network(tiny):
    model, path = tiny("mask_rcnn", seed=0)
    second, newer = tiny("mask_rcnn", seed=1)
    (image,) = noise_images(1)
    loader = TinyLoader(model)
    with running([("tiny", str(path))], loader) as client:
        before = ask(client, image)
        (served,) = client.state.models
        newer.replace(path)
        wait_until(lambda: served.version != before["version"])
        after = ask(client, image)
    assert loader.loads == 1 and after["version"] == served.version
    assert after["detections"] != before["detections"]
    assert_same(after, expected(model, image))
    weights = zip(model.keras_model.weights, second.keras_model.weights, strict=True)
    assert all(np.array_equal(one, other) for one, other in weights)
