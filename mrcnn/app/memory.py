"""The memory that a training step takes, estimated from the network's layers, and that at hand."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from ..config import Config

SIDES = (256, 512)  # of the images for which the numbers of a network are counted
BYTES = 4  # of a number
# Fitted to measured peaks of trainings on a CPU (docs/performance.md): what TensorFlow and
# Python take; for each parameter the weight, its gradient, the optimizer's number and a copy; for
# each number that a layer computes for an image, about itself.
RUNTIME_BYTES = 1.4e9
NUMBERS_OF_PARAMETER = 4
NUMBERS_OF_OUTPUT = 0.95
CGROUP = Path("/sys/fs/cgroup")  # of a container


class StepMemory(NamedTuple):
    """Bytes of a training step: `fixed + images * (per_image + per_pixel * pixels)`."""

    fixed: float
    per_image: float
    per_pixel: float

    def of(self, images: int, side: int) -> float:
        """Return the bytes of a step on square images of a side in pixels."""
        return self.fixed + images * (self.per_image + self.per_pixel * side**2)


def step_memory(config: Config) -> StepMemory:
    """Estimate what a training step of a network takes; this builds the network."""
    from ..detection_model import model_class
    from ..inference.complexity import network_complexity

    config = copy.copy(config)
    rois = config.TRAIN_ROIS_PER_IMAGE
    # The heads of training see these RoIs, the masks the positive ones.
    vars(config)["POST_NMS_ROIS_INFERENCE"] = rois
    vars(config)["DETECTION_MAX_INSTANCES"] = max(1, round(rois * config.ROI_POSITIVE_RATIO))
    config.GPU_COUNT = config.IMAGES_PER_GPU = config.BATCH_SIZE = 1
    network = model_class(config)("inference", config).keras_model
    small, large = (network_complexity(network, (side, side)) for side in SIDES)
    outputs_of_pixel = (large.outputs - small.outputs) / (SIDES[1] ** 2 - SIDES[0] ** 2)
    outputs_of_image = small.outputs - outputs_of_pixel * SIDES[0] ** 2
    bytes_of_output = BYTES * NUMBERS_OF_OUTPUT
    return StepMemory(
        RUNTIME_BYTES + BYTES * NUMBERS_OF_PARAMETER * small.parameters,
        bytes_of_output * outputs_of_image,
        bytes_of_output * outputs_of_pixel,
    )


# --- At hand --------------------------------------------------------------------------------------


def memory_at_hand(has_gpu: bool) -> float | None:
    """Return the free bytes of the GPU with least, or of the machine; None if that is unknown."""
    return _gpu_memory() if has_gpu else _machine_memory()


def _gpu_memory() -> float | None:
    """The free bytes of the GPU that has least of them, by nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    free = [int(word) for word in result.stdout.split() if word.isdecimal()]
    return min(free) * 2.0**20 if free else None


def _machine_memory() -> float | None:
    """The available bytes of a Linux machine, or of the container in which it runs."""
    values = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                values.append(int(line.split()[1]) * 2.0**10)
    except OSError:
        return None
    limit = _number_in(CGROUP / "memory.max")
    if limit is not None:
        values.append(limit - (_number_in(CGROUP / "memory.current") or 0))
    return min(values, default=None)


def _number_in(path: Path) -> float | None:
    """The number in a file; None if there is no file or another word."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
