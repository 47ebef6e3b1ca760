"""`mrcnn serve`: models behind HTTP, with a page, until it is stopped."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ..files.safe_text import clean_name
from ..serve import addresses
from .cli_support import OK, UsageError, load_for_use, say

log = logging.getLogger("mrcnn")

# The modules of the extra [serve].
MODULES = ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn")
STOPPED = "Stopped: every accepted request is answered."
SHORTEST_TOKEN = 16  # characters


class FileLoader:
    """Loads weight files with the settings of the command."""

    def __init__(self, items: list[str]):
        """items: of --config."""
        self.items = items

    def load(self, weights: str) -> Any:
        """Return a model that detects."""
        model, _ = load_for_use(weights, self.items)
        if model.config.RPN_ONLY:
            raise ValueError(
                f"mrcnn serve needs a network that knows classes. Received: {weights}, a region "
                "proposal network only (RPN_ONLY). Try MaskRCNN.detect in Python."
            )
        return model

    def describe(self, weights: str) -> dict | None:
        """Return the description in a weight file; None without one."""
        from ..weights.opening import read_metadata

        return read_metadata(weights)


def run(args) -> int:
    """Run `mrcnn serve`."""
    check_extra()
    token = read_token(args.token, args.host)
    named = named_weights(args.weights)

    from ..serve import server
    from ..serve.settings import Settings

    for name in ("uvicorn.error", "python_multipart"):  # a line for each hostile request
        logging.getLogger(name).setLevel(logging.ERROR)
    settings = Settings(
        max_bytes=round(args.max_megabytes * 2**20),
        max_pixels=round(args.max_megapixels * 1e6),
        max_images=max(args.queue, args.batch),
        batch_size=args.batch,
        answer_seconds=args.timeout,
        lowest_score=args.min_confidence,
    )
    with addresses.bind(args.host, args.port) as listener:
        state = server.make_state(named, FileLoader(args.config), settings)
        line = f"Serving {', '.join(name for name, _ in named)} at {addresses.url(listener)}"
        made = server.make_server(state, args.host, token, lambda: say(line))
        server.serve(made, listener)
    left = state.admission.images
    say(f"Stopped; {left} images were not detected in time." if left else STOPPED)
    return OK


def check_extra() -> None:
    """Raise a ValueError if a library of the extra is missing."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            "mrcnn serve needs the libraries of its extra. Received: an installation without "
            f"{', '.join(missing)}. Try pip install 'mask-rcnn-keras3[serve]'."
        )


def read_token(token: str | None, host: str) -> str | None:
    """Return the token of --token or of MRCNN_TOKEN; None if neither is set.

    Raises: UsageError if it is short, or if there is none and other machines reach the host.
    """
    token = token or os.environ.get("MRCNN_TOKEN") or None
    if token is None and not addresses.is_loopback(host):
        raise UsageError(
            f"A server that other machines reach needs a token. Received: --host {host} without "
            "one. Try MRCNN_TOKEN=$(openssl rand -hex 32) in the environment."
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"A token must have at least {SHORTEST_TOKEN} characters. Received: {len(token)}. "
            "Try openssl rand -hex 32."
        )
    return token


def named_weights(words: list[str]) -> list[tuple[str, str]]:
    """Return `(name, weights)` for each word `NAME=WEIGHTS` or `WEIGHTS`, named by its file.

    Raises: UsageError if two models have one name.
    """
    named = []
    for word in words:
        name, equals, weights = word.partition("=")
        if not equals or os.path.exists(word):
            name, weights = Path(word).stem, word
        named.append((clean_name(name).replace("/", "_"), weights))
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        raise UsageError(
            f"Every model must have a name of its own. Received: {twice[0]} twice. "
            "Try NAME=WEIGHTS."
        )
    return named
