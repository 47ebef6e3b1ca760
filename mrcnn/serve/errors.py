"""The error that ends a request: a status code, and the sentence for the client."""

from __future__ import annotations

RETRY_SECONDS = 1  # after which a client that was refused for lack of space may ask again


class RequestError(Exception):
    """A request cannot be answered. status: of HTTP. sentence: for the client."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, besides those of its content."""
        if self.status == 503:
            return {"Retry-After": str(RETRY_SECONDS)}
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {}
