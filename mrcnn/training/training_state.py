"""Saves and restores what a resumed training needs besides the weights: optimizer variables and RNG state.

The checkpoint `mask_rcnn_<name>_<epoch>.h5` of an epoch has a `training_state_<epoch>.hdf5` in the same folder. The
state is written first, so that every checkpoint has one, unless the disk is too full for both: then the weights alone
are written. Only the newest state is kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np

from ..files import hdf5
from ..files.atomic import atomic_write

_ABOUT = "about"


def state_path(folder: str | os.PathLike, epoch: int) -> str:
    """Where the state after so many epochs is kept, in the folder of a run."""
    return os.path.join(folder, f"training_state_{epoch:04d}.hdf5")


def save_state(path: str, network, about: dict) -> None:
    """Write the optimizer's variables and the RNG state of the network's layers; whole or not at all.

    about: description of the training, as JSON can hold it.

    Raises: OSError if the file cannot be written.
    """
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        file.attrs[_ABOUT] = json.dumps(about)
        for name, variable in _variables(network).items():
            file[name] = np.asarray(variable)


def remove_older_states(path: str) -> None:
    """Delete the states of the same run's other epochs."""
    for other in Path(path).parent.glob("training_state_*.hdf5"):
        if other.name != Path(path).name:
            other.unlink(missing_ok=True)


def read_about(path: str) -> dict | None:
    """Return the description that `save_state` wrote; None if there is no such file.

    Raises: ValueError if the file is no training state, or damaged.
    """
    if not os.path.isfile(path):
        return None
    with hdf5.open_file(path, "training state") as file:
        text = hdf5.text(file, _ABOUT)
    try:
        about = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise _no_state(path) from error
    if not isinstance(about, dict):
        raise _no_state(path)
    return about


def _no_state(path: str) -> ValueError:
    return ValueError(
        f"A training state must describe its training (attribute {_ABOUT}). Received: {path!r}, which does not. "
        "Try removing it: the optimizer then starts fresh."
    )


def restore_state(path: str, network) -> bool:
    """Set the variables as they were saved; False, and nothing is set, if the network has other variables.

    Raises: ValueError if the file may not be read, see `hdf5`.
    """
    variables = _variables(network)
    with hdf5.open_file(path, "training state") as file:
        entries = {f"{group}/{name}" for group in ("optimizer", "random") if hdf5.has(file, group)
                   for name in hdf5.group(file, group)}  # fmt: skip
        if entries != variables.keys():
            return False
        stored = {name: hdf5.stored(file, name) for name in variables}
        if any(stored[name].shape != tuple(variable.shape) for name, variable in variables.items()):
            return False
        values = {
            name: hdf5.read(file, stored[name], variable.dtype)
            for name, variable in variables.items()
        }
    for name, variable in variables.items():
        variable.assign(values[name])
    return True


def _variables(network) -> dict:
    """Every variable that a training changes besides the weights, by a name of its own."""
    found = {}
    for i, variable in enumerate(network.optimizer.variables):
        name = variable.path.partition("/")[2].replace(
            "/", "."
        )  # without the name of this very optimiser
        found[f"optimizer/{i:04d} {name}"] = variable
    for layer in network.layers:
        if hasattr(layer, "seed_generator"):
            found[f"random/{layer.name}"] = layer.seed_generator.state
    return found
