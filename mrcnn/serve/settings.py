"""The limits and times of the server."""

from __future__ import annotations

from typing import NamedTuple


class Settings(NamedTuple):
    """How much the server holds at once, and how long it waits.

    max_bytes: of the body of a request. max_pixels: of one image, before it is decoded.
    max_images: accepted and not yet answered; further requests get 503.
    batch_size: images that the network sees together.
    batch_seconds: how long a batch waits for images of requests that are being read.
    head_seconds, body_seconds: in which a client must send the head and the body of a request.
    answer_seconds: in which a request must be answered after its body has come.
    reload_seconds: between two checks of the weight files.
    lowest_score: detections below it are never computed.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_images: int = 64
    batch_size: int = 8
    batch_seconds: float = 0.01
    head_seconds: float = 10
    body_seconds: float = 20
    answer_seconds: float = 60
    reload_seconds: float = 2
    lowest_score: float = 0.05

    @property
    def max_waiting_pixels(self) -> int:
        """Pixels of all images that are decoded and not yet answered; in RGB 600 MB by default."""
        return 4 * self.max_pixels
