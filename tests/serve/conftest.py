"""Fixtures for tests of the server, which need the extra [serve]."""

import contextlib
import http.client
import json
import threading
import time

import pytest
from fake_detector import FakeLoader, form, weight_file

from mrcnn.app.serve_command import MODULES
from mrcnn.serve import addresses
from mrcnn.serve.settings import Settings

NEEDS_EXTRA = f"needs the extra [serve]: pip install -e '.[serve]' ({', '.join(MODULES)})"


class Client:
    """Requests to a running server; each has a connection of its own."""

    def __init__(self, state, server, port):
        self.state = state
        self.server = server
        self.port = port

    def ask(self, method, path, body=None, headers=None):
        """`(status, headers, body)`; the body is read as JSON if it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        if answer.headers.get_content_type() == "application/json":
            content = json.loads(content)
        return answer.status, answer.headers, content

    def detect(self, *images, query="", **headers):
        """Post files `(name, content)` as a form."""
        body, kind = form(*images)
        return self.ask("POST", f"/v1/detect{query}", body, {"Content-Type": kind, **headers})


@contextlib.contextmanager
def running(named, loader, token=None, host="127.0.0.1", **settings):
    """Yield a `Client` of a server in a thread of this process."""
    from mrcnn.serve import server as servers

    settings = Settings(**{"reload_seconds": 0.05, **settings})
    with addresses.bind("127.0.0.1", 0) as listener:
        state = servers.make_state(named, loader, settings)
        server = servers.make_server(state, host, token)
        thread = threading.Thread(target=servers.serve, args=(server, listener))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield Client(state, server, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


def wait_until(condition, seconds=30):
    """Fail if a condition does not become true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


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
