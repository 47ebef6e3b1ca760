"""The state to resume from, besides the weights: optimizer variables, RNG state, a record.

The checkpoint `mask_rcnn_<name>_<epoch>.h5` of an epoch has a `training_state_<epoch>.hdf5` in the
same folder. Only the newest state of a run is kept. The record describes the training, as JSON:

    epoch: number of epochs done. until: epoch at which the training was to end.
    layers, learning_rate: as `train` got them. seed: of the batches.
    best: best val_mAP so far, -1 before the first. best_epoch: its epoch, from 1; 0 before it.
    waited: number of epochs in this stage, since the best one, whose AP was measured.
    ap_images: number of validation images on which AP is measured; 0 if not yet chosen.
    epoch_seconds: time of an epoch's training steps.
    pending: the metrics of the epoch, if its AP is still to be measured; otherwise None.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ..files import hdf5
from ..files.atomic import atomic_write

if TYPE_CHECKING:
    import keras

_RECORD = "about"  # name of the attribute in the file


# What a record contains of the epochs before a training starts.
NEW_RECORD = {
    "best": -1.0,
    "best_epoch": 0,
    "waited": 0,
    "ap_images": 0,
    "epoch_seconds": 0.0,
    "pending": None,
}


def state_path(folder: str | os.PathLike, epoch: int) -> str:
    """Return the path of the state after an epoch, in the folder of a run."""
    return os.path.join(folder, f"training_state_{epoch:04d}.hdf5")


def save_state(path: str, network: keras.Model, record: dict) -> None:
    """Write the optimizer's variables and the RNG state of the network's layers, and the record.

    The file appears complete or not at all.

    Raises: OSError if the file cannot be written.
    """
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        file.attrs[_RECORD] = json.dumps(record)
        for name, variable in _variables(network).items():
            file[name] = np.asarray(variable)


def remove_older_states(path: str) -> None:
    """Delete the states of the same run's other epochs."""
    for other in _states(Path(path).parent):
        if other.name != Path(path).name:
            other.unlink(missing_ok=True)


def newest_record(folder: str | os.PathLike) -> dict | None:
    """Return the record of the newest state in the folder of a run; None without a state.

    Raises: ValueError as `read_record`.
    """
    states = sorted(_states(Path(folder)))
    return read_record(str(states[-1])) if states else None


def _states(folder: Path) -> Iterator[Path]:
    return folder.glob("training_state_*.hdf5")


def read_record(path: str) -> dict | None:
    """Return the record that `save_state` wrote; None if the file does not exist.

    Raises: ValueError if the file is not a training state, or damaged.
    """
    if not os.path.isfile(path):
        return None
    with hdf5.open_file(path, "training state") as file:
        text = hdf5.text(file, _RECORD)
    try:
        record = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise _no_record(path) from error
    if not isinstance(record, dict):
        raise _no_record(path)
    return record


def _no_record(path: str) -> ValueError:
    return ValueError(
        f"A training state must describe its training (attribute {_RECORD}). "
        f"Received: {path!r}, which does not. "
        "Try removing it: the optimizer then starts fresh."
    )


def restore_state(path: str, network: keras.Model) -> bool:
    """Set the variables as they were saved.

    Returns: False, and changes no variable, if the network has other variables.

    Raises: ValueError if the file may not be read, see `hdf5`.
    """
    variables = _variables(network)
    with hdf5.open_file(path, "training state") as file:
        if _names(file) != variables.keys():
            return False
        stored = {name: hdf5.stored(file, name) for name in variables}
        if any(stored[name].shape != tuple(variable.shape) for name, variable in variables.items()):
            return False
        values = {}
        for name, variable in variables.items():
            values[name] = hdf5.read(file, stored[name], variable.dtype)
    for name, variable in variables.items():
        variable.assign(values[name])
    return True


def _names(file) -> set[str]:
    """Return the names of all variables in the file."""
    names = set()
    for group in ("optimizer", "random"):
        if hdf5.has(file, group):
            names |= {f"{group}/{name}" for name in hdf5.group(file, group)}
    return names


def _variables(network: keras.Model) -> dict[str, keras.Variable]:
    """Return the variables that a training changes besides the weights, by name in the file."""
    found = {}
    for i, variable in enumerate(network.optimizer.variables):
        # The first part is the name of this very optimizer object.
        name = variable.path.partition("/")[2].replace("/", ".")
        found[f"optimizer/{i:04d} {name}"] = variable
    for layer in network.layers:
        if hasattr(layer, "seed_generator"):
            found[f"random/{layer.name}"] = layer.seed_generator.state
    return found
