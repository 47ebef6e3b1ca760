"""How long a detection takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def seconds_of_detection(detect: Callable[[list], Any], image: np.ndarray, repeats: int) -> float:
    """Return the median time of a detection, after a first one, which prepares the network.

    detect: of a model. image: `[H, W, C]`. repeats: at least 1.
    """
    detect([image])
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        detect([image])
        times.append(time.perf_counter() - start)
    return float(np.median(times))
