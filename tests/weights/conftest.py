"""A small network, its weight file, and a second network with other weights."""

import pytest
from toy_network import build

from mrcnn.weights import zoo
from mrcnn.weights.saving import save_weights


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def other():
    return build(seed=1)


@pytest.fixture
def path(model, tmp_path):
    return save_weights(model, tmp_path / "mask_rcnn_toy_0001.h5")


@pytest.fixture
def downloads(monkeypatch):
    """The arguments of each download, which is not carried out."""
    asked = []

    def download(url, path, **checks):
        asked.append((url, path, checks))
        return path

    monkeypatch.setattr(zoo, "download", download)
    return asked
