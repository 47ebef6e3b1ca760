"""The memory of a step: arithmetic, and what systems say about the memory at hand."""

from types import SimpleNamespace

import pytest
from tiny import TinyConfig

from mrcnn.app import memory
from mrcnn.app.memory import StepMemory, memory_at_hand, step_memory


def test_step_is_linear_in_images_and_pixels():
    step = StepMemory(fixed=100, per_image=10, per_pixel=0.5)
    assert step.of(0, 64) == 100
    assert step.of(2, 4) == 100 + 2 * (10 + 0.5 * 16)


def test_step_of_a_network_grows_with_its_images_and_heads():
    small, large = step_memory(TinyConfig()), step_memory(TinyConfig(TRAIN_ROIS_PER_IMAGE=400))
    assert small.per_pixel > 4 and small.fixed > memory.RUNTIME_BYTES
    assert large.per_pixel == pytest.approx(small.per_pixel, rel=0.05)
    assert large.per_image > 2 * small.per_image


def test_memory_of_a_machine_is_the_least_of_system_and_container(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    system = memory_at_hand(has_gpu=False)
    assert system is None or system > 2**20
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    if system is not None:
        assert memory_at_hand(has_gpu=False) == 2_000_000
        (tmp_path / "memory.max").write_text("max\n")
        assert memory_at_hand(has_gpu=False) > 2_000_000


def test_memory_of_gpus_is_that_of_the_fullest(monkeypatch):
    monkeypatch.setattr(memory.shutil, "which", lambda _: None)
    assert memory_at_hand(has_gpu=True) is None
    monkeypatch.setattr(memory.shutil, "which", lambda _: "nvidia-smi")
    for said, expected in (("81920\n1024\n", 2**30), ("No devices were found\n", None)):
        result = SimpleNamespace(stdout=said)
        monkeypatch.setattr(memory.subprocess, "run", lambda *_, result=result, **__: result)
        assert memory_at_hand(has_gpu=True) == expected
