"""Fixtures of the training tests."""

import pytest
from tiny import Squares
from tiny_training import build


@pytest.fixture(scope="module")
def dataset():
    return Squares()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network for the tests that do not train it."""
    return build(tmp_path_factory.mktemp("logs")).keras_model
