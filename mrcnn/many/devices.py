"""The environment of a worker: its share of the processor, and its GPU."""

from __future__ import annotations

import os
from pathlib import Path

_NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU


def cpu_count() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_names() -> list[str]:
    """Return the names of the GPUs of this machine, as CUDA_VISIBLE_DEVICES has them.

    TensorFlow is not asked: it would take memory of each GPU for a process that only waits.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    count = len(list(_NVIDIA.iterdir())) if _NVIDIA.is_dir() else 0
    return [str(i) for i in range(count)]


def worker_environments(count: int) -> list[dict[str, str]]:
    """Return the variables of each of `count` workers on this machine.

    Cores are divided, because each worker would start a thread for every core. GPUs take turns;
    workers that share one take its memory as they need it.
    """
    environment = thread_environment(max(1, cpu_count() // count))
    gpus = gpu_names()
    if not gpus:
        return [environment] * count
    if count > len(gpus):
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return [{**environment, "CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(count)]


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that limit the threads of TensorFlow and of OpenMP."""
    return {"TF_NUM_INTRAOP_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
