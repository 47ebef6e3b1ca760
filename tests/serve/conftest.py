"""Fixtures for tests of the server, which need the extra [serve]."""

import contextlib

import pytest
from fake_detector import FakeLoader, weight_file
from serving import running

from mrcnn.app.serve_command import MODULES

NEEDS_EXTRA = f"needs the extra [serve]: pip install -e '.[serve]' ({', '.join(MODULES)})"


@pytest.fixture(scope="session")
def extra():
    """Requested by tests that need the extra."""
    for name in MODULES:
        pytest.importorskip(name, reason=NEEDS_EXTRA)


@pytest.fixture(scope="module")
def client(extra, tmp_path_factory):
    """A client of a server with two fake models, shared by the tests of a file."""
    folder = tmp_path_factory.mktemp("weights")
    named = [(name, weight_file(folder / name, name)) for name in ("first", "second")]
    with running(named, FakeLoader()) as found:
        yield found


@pytest.fixture
def serve(extra, tmp_path):
    """Function: a client of a server of its own, with one fake model and other settings."""
    with contextlib.ExitStack() as stack:

        def start(seconds=0.0, **settings):
            named = [("fake", weight_file(tmp_path / "weights"))]
            return stack.enter_context(running(named, FakeLoader(seconds), **settings))

        yield start
