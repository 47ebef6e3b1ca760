"""uvicorn's HTTP/1.1 with a limit on the time that a client takes to send.

uvicorn waits without end for the head of a request, and for the rest of a body that has been
answered already, such as one that was too large.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: 41\r\n\r\nThe head of a request must come in time.\n"
)


class PromptProtocol(H11Protocol):
    """A connection that is closed if a head, or the rest of an answered body, is late.

    head_seconds: how long either may take.
    """

    def __init__(self, *args: Any, head_seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.head_seconds = head_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._had_request = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the timer when the client begins to owe something; stop it when that has come."""
        self._had_request = self._had_request or self.cycle is not None
        if self.transport.is_closing() or not (self._owes_head() or self._owes_body()):
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _owes_head(self) -> bool:
        """Whether a head has begun, or is the first one; uvicorn closes idle connections itself."""
        has_begun = len(self.conn.trailing_data[0]) > 0
        return self.conn.their_state is h11.IDLE and (has_begun or not self._had_request)

    def _owes_body(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._owes_head():
            self.transport.write(LATE)
        self.transport.close()
