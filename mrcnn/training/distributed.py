"""Several hosts that train as one: who they are, the strategy that joins them, what they tell each other.

Each host runs the same program. TF_CONFIG in its environment names them all and says which one this is:

    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'

The first of them, or the one in `"chief"`, is the chief, which alone writes files.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import signal
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

log = logging.getLogger("mrcnn")

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}, '
    "the index counting up from host to host"
)


@dataclass(frozen=True)
class Hosts:
    """addresses: `host:port` of each, the chief first. index: which of them this process is."""

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def read_hosts() -> Hosts | None:
    """The hosts that TF_CONFIG names; None where there is none in the environment, or it names only one.

    Raises: ValueError where it cannot be read.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None

    def wrong(rule):
        return ValueError(
            f"TF_CONFIG must {rule}. Received: {text}. Try {_EXAMPLE}; or unset it to train on one host."
        )

    try:
        said = json.loads(text)
        cluster = [
            (job, *place)
            for job in ("chief", "worker")
            for place in enumerate(said["cluster"].get(job, []))
        ]
    except ValueError as error:
        raise wrong("be JSON") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise wrong('name the hosts under "cluster"') from error
    addresses = tuple(address for *_, address in cluster)
    if not addresses or not all(re.fullmatch(r".+:\d+", str(address)) for address in addresses):
        raise wrong('list host:port of each host under "cluster", "worker"')
    try:
        own = said["task"]["type"], int(said["task"]["index"])
        hosts = Hosts(addresses, [(job, index) for job, index, _ in cluster].index(own))
    except (KeyError, TypeError, ValueError) as error:
        raise wrong('say under "task" which of the hosts this one is') from error
    return hosts if len(addresses) > 1 else None


def joined(hosts: Hosts, config):
    """The strategy of all hosts' devices; it waits until every host has started. GPU_COUNT counts all the devices.

    Raises: ValueError where the devices do not fit GPU_COUNT, or TensorFlow has begun to compute before.
    """
    gpus = len(tf.config.get_visible_devices("GPU"))
    count = len(hosts.addresses) * max(1, gpus)
    if count != config.GPU_COUNT or config.BATCH_SIZE % count:
        raise ValueError(
            "GPU_COUNT must count the devices of all hosts, and BATCH_SIZE be a multiple of it. Received: GPU_COUNT = "
            f"{config.GPU_COUNT}, BATCH_SIZE = {config.BATCH_SIZE}; {len(hosts.addresses)} hosts in TF_CONFIG, and "
            f"{f'{gpus} GPUs' if gpus else 'no GPU, so one CPU,'} on this one. Try GPU_COUNT = {count} "
            "(mrcnn train --gpus), as many GPUs on each host (CUDA_VISIBLE_DEVICES), and no BATCH_SIZE of your own."
        )
    return _join(hosts)


@functools.cache  # once a process: a second model trains with the same hosts
def _join(hosts):
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
            "With several hosts the model to be trained must be made before TensorFlow computes anything. Received: "
            "MaskRCNN('training', ...) after something else did. Try to make it first in the program."
        ) from error
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(
            signal.SIGTERM, on_sigterm
        )  # TensorFlow catches it and goes on: `kill` would end nothing
    strategy.hosts = hosts
    return strategy


def of(strategy) -> Hosts | None:
    """The hosts that a strategy joins; None for one of a single host."""
    return getattr(strategy, "hosts", None)


def gathered(strategy, numbers) -> np.ndarray:
    """`[hosts, len(numbers)]` int64: what each host gives, the chief's first; every host must call it."""
    hosts = of(strategy)
    table = np.zeros((len(hosts.addresses), len(numbers)), np.int64)
    table[hosts.index] = numbers
    return strategy.reduce("SUM", tf.constant(table), axis=None).numpy()
