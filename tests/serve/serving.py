"""A server with fake models in a thread of this process, and a client for it."""

import contextlib
import http.client
import json
import threading
import time

from fake_detector import form

from mrcnn.serve import addresses
from mrcnn.serve.settings import Settings


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
