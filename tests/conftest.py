"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure: no example has a time limit.
settings.register_profile("mrcnn", deadline=None)
settings.load_profile("mrcnn")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")


def shared_folder() -> Path | None:
    """The folder of reference numbers and real data, or None in a user's clone."""
    folder = Path(os.environ.get("MRCNN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    return folder if (folder / "reference").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; tests that ask for it skip, and say so, where it does not exist."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("needs the shared reference data: set MRCNN_SHARED to its folder")
    return folder
