"""Run the server: models, uvicorn, and a stop that answers what was accepted."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn

from .admission import Admission
from .http_protocol import PromptProtocol
from .metrics import Metrics
from .models import Loader, Models, load_models
from .settings import Settings
from .web_app import State, make_app

POOL_THREADS = 4  # that decode images and write answers
MOST_CONNECTIONS = 900  # a process may usually open 1,024 files


def make_state(named: Sequence[tuple[str, str]], loader: Loader, settings: Settings) -> State:
    """Load the models and start their threads. named: `(name, weights)` of each model."""
    admission = Admission(settings)
    metrics = Metrics(lambda: admission.images)
    models = Models(
        load_models(named, loader, settings, metrics),
        settings,
        # Whether requests are accepted whose images are not in the queue yet.
        lambda waiting: admission.images > waiting,
    )
    pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="mrcnn-serve")
    return State(settings, metrics, admission, models, pool)


class Server(uvicorn.Server):
    """uvicorn's server, which calls `started_to_listen()` when clients can connect."""

    def __init__(self, config: uvicorn.Config, started_to_listen: Callable[[], None]):
        super().__init__(config)
        self._started_to_listen = started_to_listen

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        self._started_to_listen()


def make_server(
    state: State,
    host: str,
    token: str | None,
    started_to_listen: Callable[[], None] = lambda: None,
) -> Server:
    """Return the server of the models. host, token: see `make_app`."""
    settings = state.settings
    protocol: Any = functools.partial(PromptProtocol, head_seconds=settings.head_seconds)
    config = uvicorn.Config(
        make_app(state, host, token),
        http=protocol,
        loop="asyncio",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(settings.body_seconds + settings.answer_seconds),
    )
    return Server(config, started_to_listen)


def serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then those that are accepted."""
    with _stopped_by_signals(server):
        asyncio.run(server.serve(sockets=[listener]))


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let signals stop the server also before uvicorn listens to them, and not the process.

    uvicorn raises the signal again after its end, which would end the process with an error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
