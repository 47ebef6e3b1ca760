"""The choice of operations that every runtime knows, for graphs that leave TensorFlow.

ONNX Runtime, OpenVINO and LiteRT have no crop_and_resize, no combined non-max suppression, no
dynamic_stitch. Inside `portable_ops` the functions of this folder use others, with equal results
but slower on a CPU: RoIs are gathered, classes are kept apart by shifting their boxes.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable_ops() -> Iterator[None]:
    """Let graphs that are traced in the block use only operations that every runtime knows.

    Shapes and values stay: RoIs `[N, h, w, C]`, boxes `[B, K, 4]`.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def is_portable() -> bool:
    """Return whether the graph that is being traced is for any runtime.

    Functions with two forms, of the same result `[...]`, ask it.
    """
    return _portable.get()
