"""Each worker has its share of the cores and its GPU."""

import pytest

from mrcnn.many import devices


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(cores, gpus)`: a computer with these."""

    def make(cores, gpus):
        for i in range(gpus):
            (tmp_path / f"0000:{i:02d}").mkdir()
        monkeypatch.setattr(devices, "_NVIDIA", tmp_path if gpus else tmp_path / "none")
        monkeypatch.setattr(devices, "cpu_count", lambda: cores)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


def test_cores_are_divided(machine):
    machine(cores=8, gpus=0)
    threads = [
        environment["TF_NUM_INTRAOP_THREADS"] for environment in devices.worker_environments(3)
    ]
    assert threads == ["2", "2", "2"]  # 8 // 3
    assert devices.worker_environments(16)[0]["TF_NUM_INTRAOP_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in devices.worker_environments(1)[0]


def test_gpus_take_turns(machine, monkeypatch):
    machine(cores=8, gpus=2)
    assert devices.gpu_names() == ["0", "1"]
    three = devices.worker_environments(3)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in three] == ["0", "1", "0"]
    assert three[0]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in devices.worker_environments(2)[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.gpu_names() == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices.gpu_names() == []


def test_at_least_one_core():
    assert devices.cpu_count() >= 1
