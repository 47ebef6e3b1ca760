"""The bound on what the server holds: images that are accepted and not yet answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import RequestError
from .settings import Settings


class Admission:
    """Counts accepted images and their pixels; only the thread of the event loop may call it."""

    def __init__(self, settings: Settings):
        self.max_images = settings.max_images
        self.max_pixels = settings.max_waiting_pixels
        self.images = 0
        self.pixels = 0

    @contextmanager
    def accept(self) -> Iterator[Accepted]:
        """Hold the place of a request with one image inside a `with` block.

        Raises: RequestError 503 if there is no place.
        """
        accepted = Accepted(self)
        accepted.add(images=1)
        try:
            yield accepted
        finally:
            self.images -= accepted.images
            self.pixels -= accepted.pixels


class Accepted:
    """The images and pixels of one accepted request."""

    def __init__(self, admission: Admission):
        self.admission = admission
        self.images = 0
        self.pixels = 0

    def add(self, images: int = 0, pixels: int = 0) -> None:
        """Count more images or pixels of the same request.

        Raises: RequestError 503 if there is no place for them.
        """
        admission = self.admission
        is_full = admission.images + images > admission.max_images
        if is_full or admission.pixels + pixels > admission.max_pixels:
            raise RequestError(
                503,
                f"The server must have a place for the images. Received: {admission.images} of "
                f"{admission.max_images} places and {admission.pixels:,} of "
                f"{admission.max_pixels:,} pixels are taken. Try again in a second.",
            )
        admission.images += images
        admission.pixels += pixels
        self.images += images
        self.pixels += pixels
