"""Fixtures for all tests."""

import json
import lzma
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# No time limit per example, for a busy machine must not fail a test.
settings.register_profile("mrcnn", deadline=None)
settings.load_profile("mrcnn")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")


def shared_folder() -> Path | None:
    """The folder of reference numbers and real data, or None in a user's clone."""
    folder = Path(os.environ.get("MRCNN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    return folder if (folder / "reference").is_dir() else None


@pytest.fixture
def compiled():
    """Requested next to `eagerly` by tests of the traced graph."""


@pytest.fixture
def eagerly(request):
    """Run functions eagerly: tracing a small network takes longer than its few steps."""
    import tensorflow as tf

    tf.config.run_functions_eagerly("compiled" not in request.fixturenames)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; tests that request it skip if it does not exist."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("needs the shared reference data: set MRCNN_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def parity() -> dict:
    """Recorded numbers that are part of the repository: recording -> key -> array."""
    from reference import make

    return make.read()


@pytest.fixture(scope="session")
def torchvision_units():
    """Function: recorded arrays of a single operation, by name; a clone has fewer of them."""
    from reference import torchvision_units

    return lambda operation: torchvision_units.read(operation, shared_folder())


@pytest.fixture(scope="session")
def matterport_api() -> dict:
    """Public names of matterport/Mask_RCNN 2.1: module -> name -> parameters and defaults."""
    return json.loads((Path(__file__).parent / "reference" / "matterport_api.json").read_text())


@pytest.fixture(scope="session")
def reference_weights(shared, tmp_path_factory) -> Path:
    """matterport's own `.h5` of a ResNet50 at 256 px, unpacked once; read-only."""
    path = tmp_path_factory.mktemp("reference") / "r50_256.h5"
    with lzma.open(shared / "reference" / "r50_256.h5.xz") as packed, open(path, "wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Make the text of reports valid UTF-8, which xdist needs; tests log broken file names."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
