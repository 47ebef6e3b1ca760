"""TF_CONFIG, and what hosts agree on. tests/test_devices.py trains on several hosts."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tiny import Squares, TinyConfig

from mrcnn.data import augment
from mrcnn.training import distributed, loop
from mrcnn.training.loop import TrainingData
from mrcnn.training.pipeline import Batches, stream
from mrcnn.training.run import FolderName, TrainingRun

TWO = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


def hosts_for(monkeypatch, config) -> distributed.Hosts | None:
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    return distributed.read_hosts()


def test_first_host_is_the_chief(monkeypatch):
    second = hosts_for(monkeypatch, TWO)
    assert second == distributed.Hosts(("a:1", "b:2"), 1)
    assert not second.is_chief
    assert hosts_for(monkeypatch, TWO | {"task": {"type": "worker", "index": "0"}}).is_chief


def test_chief_job_comes_before_the_workers(monkeypatch):
    cluster = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    found = [
        hosts_for(monkeypatch, {"cluster": cluster, "task": {"type": job, "index": index}})
        for job, index in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert found == [distributed.Hosts(("c:3", "a:1", "b:2"), index) for index in (0, 1, 2)]


def test_fewer_than_two_hosts_are_none(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distributed.read_hosts() is None
    assert hosts_for(monkeypatch, "") is None
    assert (
        hosts_for(
            monkeypatch, {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
        )
        is None
    )


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ("{'cluster': 1}", "be JSON"),
        ({"task": {"type": "worker", "index": 0}}, 'name the hosts under "cluster"'),
        ([], 'name the hosts under "cluster"'),
        ({"cluster": []}, 'name the hosts under "cluster"'),
        ({"cluster": {}}, "list host:port of each host"),
        ({"cluster": {"ps": ["a:1"]}}, "list host:port of each host"),
        ({"cluster": {"worker": "a:1"}}, "list host:port of each host"),
        ({"cluster": {"worker": ["a", "b"]}}, "list host:port of each host"),
        ({"cluster": TWO["cluster"]}, 'say under "task"'),
        (TWO | {"task": {"type": "worker", "index": 2}}, 'say under "task"'),
        (TWO | {"task": {"type": "worker", "index": -1}}, 'say under "task"'),
        (TWO | {"task": {"type": "ps", "index": 0}}, 'say under "task"'),
    ],
)
def test_unreadable_tf_config_is_an_error_with_an_example(monkeypatch, config, rule):
    with pytest.raises(ValueError, match=f"TF_CONFIG must {rule}.* Received: .* Try {{"):
        hosts_for(monkeypatch, config)


@pytest.mark.parametrize(
    "values", [{"GPU_COUNT": 1}, {"GPU_COUNT": 3}, {"GPU_COUNT": 2, "BATCH_SIZE": 3}]
)
def test_gpu_count_must_fit_the_hosts(monkeypatch, values):
    hosts_for(monkeypatch, TWO)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    with pytest.raises(
        ValueError, match=r"2 hosts in TF_CONFIG, and no GPU, so one CPU.* Try GPU_COUNT = 2 "
    ):
        distributed.training_strategy(TinyConfig(**values))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["0", "1"])
    with pytest.raises(
        ValueError, match=r"2 hosts in TF_CONFIG, and 2 GPUs on this one.* Try GPU_COUNT = 4 "
    ):
        distributed.training_strategy(TinyConfig(**values))


def test_model_must_be_made_before_other_computations(monkeypatch):
    """TensorFlow refuses after a computation, and the error gives the reason."""
    hosts_for(monkeypatch, TWO)
    tf.constant(1) + 1
    with pytest.raises(ValueError, match="must be made before TensorFlow computes anything"):
        distributed.training_strategy(TinyConfig(GPU_COUNT=2))


def test_pieces_of_all_hosts_make_up_the_batch():
    """Two hosts of two devices each: every device gets its two images of a batch of eight."""
    settings = {
        "batch_size": 8,
        "seed": 5,
        "steps": 2,
        "augmentation": augment.compose(["flip", "color"]),
    }
    batches = Batches(Squares(5), TinyConfig(), **settings)
    read, load_image = [], batches.dataset.load_image
    batches.dataset.load_image = lambda image_id: read.append(image_id) or load_image(image_id)
    whole = [batches.batch(number)[0] for number in (2, 3)]
    read.clear()
    inputs = [SimpleNamespace(shape=(None, *x.shape[1:]), dtype=x.dtype.name) for x in whole[0]]
    for host in (0, 1):
        context = tf.distribute.InputContext(
            num_input_pipelines=2, input_pipeline_id=host, num_replicas_in_sync=4
        )
        strategy = SimpleNamespace(
            hosts=True,
            distribute_datasets_from_function=lambda make, context=context: make(context),
        )
        batches.epoch = 1
        network = SimpleNamespace(inputs=inputs, distribute_strategy=strategy)
        pieces = [values for (values,) in stream(batches, network, endless=False)]
        assert len(pieces) == 4
        for i, piece in enumerate(pieces):
            step, first = i // 2, 4 * host + 2 * (i % 2)
            for found, expected in zip(piece, whole[step], strict=True):
                np.testing.assert_array_equal(found.numpy(), expected[first : first + 2])
    assert len(read) == 16  # each image once: no host reads the rows of another


def run(folder, weight=1.0, epoch=0, seed=None, name=None):
    """A run with as much of a network as the hosts compare.

    weight: its only weight. name: of the folder, if the run is new.
    """
    network = SimpleNamespace(weights=[np.float32(weight)])
    made = TrainingRun(str(folder), epoch=epoch, resume=epoch > 0, folder_name=name)
    made.network, made.config = network, TinyConfig(SEED=seed)
    return made


def agreed(monkeypatch, *runs, images=(4, 4)) -> list[int]:
    """The seeds of the hosts, the chief's first."""
    given = []
    monkeypatch.setattr(
        distributed,
        "gather",
        lambda strategy, numbers: given.append(numbers) or np.array([given[0], numbers]),
    )
    seeds = []
    for index, (one, count) in enumerate(zip(runs, images, strict=True)):
        hosts = distributed.Hosts(("a:1", "b:2"), index)
        one.network.distribute_strategy = SimpleNamespace(hosts=hosts)
        seeds.append(loop._common_seed(one, TrainingData(Squares(count))))
    return seeds


def test_hosts_take_the_seed_and_the_folder_of_the_chief(monkeypatch, tmp_path):
    """The second host started a minute later, with a folder of its own."""
    chief = run(tmp_path / "a" / "tiny20260101T1159_2", name=FolderName(202601011159, 2))
    other = run(tmp_path / "b" / "tiny20260101T1200", name=FolderName(202601011200, 1))
    one, two = agreed(monkeypatch, chief, other)
    assert one == two
    assert chief.folder == str(tmp_path / "a" / "tiny20260101T1159_2")
    assert other.folder == str(tmp_path / "b" / "tiny20260101T1159_2")
    assert other.checkpoint_path.format(epoch=3) == f"{other.folder}/mask_rcnn_tiny_0003.h5"
    assert agreed(monkeypatch, run(tmp_path, seed=7), run(tmp_path, seed=7)) == [7, 7]


def test_hosts_keep_a_folder_set_by_the_user(monkeypatch, tmp_path):
    runs = [run(tmp_path / name, name=FolderName(202601011159, 1)) for name in ("a", "b")]
    agreed(monkeypatch, *runs)
    assert [one.folder for one in runs] == [str(tmp_path / "a"), str(tmp_path / "b")]


@pytest.mark.parametrize(
    ("other", "images", "name"),
    [
        ({"weight": 2.0}, (4, 4), r"checksum of the weights = \d+, \d+"),
        ({"epoch": 3}, (4, 4), "epoch = 0, 3"),
        ({}, (4, 5), "images to train on = 4, 5"),
    ],
)
def test_hosts_with_different_states_are_an_error(monkeypatch, tmp_path, other, images, name):
    with pytest.raises(
        ValueError,
        match=f"All hosts must start from the same state. Received: {name}, the chief's first",
    ):
        agreed(monkeypatch, run(tmp_path), run(tmp_path, **other), images=images)


def test_host_without_the_training_state_is_an_error(monkeypatch, tmp_path):
    with_state, without = tmp_path / "a", tmp_path / "b"
    with_state.mkdir()
    (with_state / "training_state_0003.hdf5").touch()
    with pytest.raises(ValueError, match="state of the optimizer \\(0: absent\\) = 1, 0"):
        agreed(monkeypatch, run(with_state, epoch=3), run(without, epoch=3))
