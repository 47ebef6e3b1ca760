"""Several devices, and several hosts, that train as one.

Every host runs the same program. TF_CONFIG in its environment lists all hosts and says which of
them it is:

    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]},
                "task": {"type": "worker", "index": 0}}'

The chief is the first host, or the one in `"chief"`. Only the chief writes files.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ..config import Config

log = logging.getLogger("mrcnn")

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}, the index counting up from host to host'
)


# --- Devices ---


def training_strategy(config: Config) -> tf.distribute.Strategy:
    """Return the `tf.distribute` strategy for GPU_COUNT: every GPU holds a copy of the network.

    Without GPUs, logical CPU devices count (`tf.config.set_logical_device_configuration`). If
    TF_CONFIG lists several hosts, the strategy spans them all.
    """
    if hosts := read_hosts():
        return _multi_host_strategy(hosts, config)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if 1 < config.GPU_COUNT <= len(devices):
        names = [device.name for device in devices[: config.GPU_COUNT]]
        return tf.distribute.MirroredStrategy(names)
    if config.GPU_COUNT > 1:
        log.warning(
            "GPU_COUNT is %d, and TensorFlow sees %d %s: "
            "one of them takes the whole batch of %d images.",
            config.GPU_COUNT, len(devices), devices[0].device_type, config.BATCH_SIZE,
        )  # fmt: skip
    return tf.distribute.get_strategy()


def device_count() -> int:
    """Return how many devices share the batch of the current step."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce_sum(tensors: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    """Return the sum of each tensor over all devices, a constant to the gradient.

    On one device the tensors are returned as they are, with their gradients.
    """
    tensors = list(tensors)
    if device_count() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    constants = [tf.stop_gradient(tensor) for tensor in tensors]
    return context.all_reduce(tf.distribute.ReduceOp.SUM, constants)


# --- Hosts ---


@dataclass(frozen=True)
class Hosts:
    """The hosts of a training.

    addresses: `host:port` of each, the chief first. index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def read_hosts() -> Hosts | None:
    """Return the hosts in TF_CONFIG; None if the variable is absent or lists only one host.

    Raises: ValueError if TF_CONFIG cannot be read.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        tf_config = json.loads(text)
        jobs = [(job, tf_config["cluster"].get(job, [])) for job in ("chief", "worker")]
        tasks = [(job, index) for job, addresses in jobs for index in range(len(addresses))]
        addresses = tuple(address for _, listed in jobs for address in listed)
    except ValueError as error:
        raise _tf_config_error("be JSON", text) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise _tf_config_error('name the hosts under "cluster"', text) from error
    if not addresses or not all(re.fullmatch(r".+:\d+", str(address)) for address in addresses):
        raise _tf_config_error('list host:port of each host under "cluster", "worker"', text)
    try:
        own_task = tf_config["task"]["type"], int(tf_config["task"]["index"])
        hosts = Hosts(addresses, tasks.index(own_task))
    except (KeyError, TypeError, ValueError) as error:
        raise _tf_config_error('say under "task" which of the hosts this one is', text) from error
    return hosts if len(addresses) > 1 else None


def _tf_config_error(rule: str, text: str) -> ValueError:
    return ValueError(
        f"TF_CONFIG must {rule}. Received: {text}. "
        f"Try {_EXAMPLE}; or unset it to train on one host."
    )


def _multi_host_strategy(hosts: Hosts, config: Config) -> tf.distribute.Strategy:
    """Return the strategy of all hosts' devices, once every host has started.

    GPU_COUNT counts the devices of all hosts.

    Raises: ValueError if the devices do not fit GPU_COUNT, or TensorFlow has computed before.
    """
    gpus = len(tf.config.get_visible_devices("GPU"))
    count = len(hosts.addresses) * max(1, gpus)
    if count != config.GPU_COUNT or config.BATCH_SIZE % count:
        devices = f"{gpus} GPUs" if gpus else "no GPU, so one CPU,"
        raise ValueError(
            "GPU_COUNT must count the devices of all hosts, and BATCH_SIZE be a multiple of it. "
            f"Received: GPU_COUNT = {config.GPU_COUNT}, BATCH_SIZE = {config.BATCH_SIZE}; "
            f"{len(hosts.addresses)} hosts in TF_CONFIG, and {devices} on this one. "
            f"Try GPU_COUNT = {count} (mrcnn train --gpus), as many GPUs on each host "
            "(CUDA_VISIBLE_DEVICES), and no BATCH_SIZE of your own."
        )
    return _join(hosts)


@functools.cache  # once per process: a second model trains with the same hosts
def _join(hosts: Hosts) -> tf.distribute.Strategy:
    log.info(
        "This is host %d of %d (%s); waiting for the others.",
        hosts.index + 1, len(hosts.addresses), ", ".join(hosts.addresses),
    )  # fmt: skip
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise ValueError(
            "With several hosts the model to be trained must be made before TensorFlow computes "
            "anything. Received: MaskRCNN('training', ...) after another computation. "
            "Try to make it first in the program."
        ) from error
    # TensorFlow's handler would survive `kill`. Only the main thread may put the old one back.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, on_sigterm)
    strategy.hosts = hosts
    return strategy


def hosts_of(strategy: tf.distribute.Strategy) -> Hosts | None:
    """Return the hosts that a strategy spans; None if it stays on one host."""
    return getattr(strategy, "hosts", None)


def gather(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> np.ndarray:
    """Return the numbers of each host, the chief's first; every host must call it.

    numbers: as many on every host.

    Returns: `[hosts, len(numbers)]` int64.
    """
    hosts: Hosts = strategy.hosts
    table = np.zeros((len(hosts.addresses), len(numbers)), np.int64)
    table[hosts.index] = numbers
    return strategy.reduce("SUM", tf.constant(table), axis=None).numpy()


def agree(
    strategy: tf.distribute.Strategy, equal: dict[str, int], chosen: Sequence[int]
) -> list[int]:
    """Return the choices of the chief; every host must call it.

    equal: numbers that must be equal on all hosts, by the name in the error.
    chosen: numbers that every host has chosen for itself.

    Raises: ValueError, on every host, if a number in `equal` differs.
    """
    table = gather(strategy, [*equal.values(), *chosen])
    for name, values in zip(equal, table.T, strict=False):
        if len(set(values)) > 1:
            raise ValueError(
                "All hosts must start from the same state. "
                f"Received: {name} = {', '.join(map(str, values))}, the chief's first. "
                "Try a model_dir (mrcnn train --logs) and data that all hosts can read, "
                "or a copy on each."
            )
    return table[0, len(equal) :].tolist()
