"""A training run: its network, its log folder, and how far it has come."""

from __future__ import annotations

import datetime
import itertools
import os
import re
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..config import NETWORKS
from ..weights import saving
from .network import TrainingNetwork

if TYPE_CHECKING:
    from ..config import Config

# Folder -> the run of this process that will create it.
_claimed: weakref.WeakValueDictionary[str, TrainingRun] = weakref.WeakValueDictionary()

# <log folder>/<network>_<name>_<epoch>.h5; the folder ends in _2 if two runs began in one minute.
_CHECKPOINT = re.compile(
    rf"[\w-]*\d{{8}}T\d{{4}}[^/\\]*[/\\](?:{'|'.join(NETWORKS)})_[\w.-]+?_(\d{{4,}})\.h5$"
)


class FolderName(NamedTuple):
    """The minute in which a new run began, after which its folder is named.

    minute: date and time as digits, 202601311259. number: counts the runs of that minute from 1.
    """

    minute: int
    number: int

    def text(self, name: str) -> str:
        """Return `<name><date>T<time>`; later runs of a minute get `_2`, `_3`, ... appended."""
        digits = str(self.minute)
        suffix = "" if self.number == 1 else f"_{self.number}"
        return f"{name.lower()}{digits[:8]}T{digits[8:]}{suffix}"


@dataclass(eq=False)
class TrainingRun:
    """The state of a training that the loop and the callbacks share.

    network, config: set when the training starts.
    folder: the log folder; it is created when the training starts.
    checkpoint_path: path of the checkpoints, with the placeholder `{epoch:04d}`.
    network_name: of `config.NETWORKS`; checkpoints begin with it.
    epoch: number of epochs done.
    class_names: names that the checkpoints carry.
    resume: whether the next training resumes from the training state of the loaded checkpoint.
    folder_name: name of the folder of a new run; None for a run that continues from a checkpoint.
    """

    network: TrainingNetwork = field(init=False)
    config: Config = field(init=False)
    folder: str = ""
    checkpoint_path: str = ""
    network_name: str = "mask_rcnn"
    epoch: int = 0
    class_names: list[str] | None = None
    resume: bool = False
    folder_name: FolderName | None = None
    _is_created: bool = False

    def start_new(self, parent: str | os.PathLike, name: str, claim: bool = True) -> None:
        """Begin a run at epoch 0, in a new folder named after the minute.

        claim: whether the run will write to the folder. Then the name is free on the disk, and no
            other run of this process gets it.
        """
        self.epoch, self.resume = 0, False
        self._name_new_folder(parent, name, claim)

    def continue_from(self, checkpoint: str, name: str) -> bool:
        """Continue in the folder and after the epoch of a checkpoint.

        Returns: False, without a change, if the path is not that of a run's checkpoint.
        """
        match = _CHECKPOINT.search(checkpoint)
        if match is None:
            return False
        self.epoch, self.resume = int(match[1]), False
        self.folder_name = None
        self._use_folder(os.path.dirname(checkpoint), name)
        return True

    def make_folder(self) -> None:
        """Create the folder, under another name if another process has created a new run's one."""
        name = str(self.config.NAME)
        if not self._is_new(name):
            os.makedirs(self.folder, exist_ok=True)
            return
        parent = os.path.dirname(self.folder)
        os.makedirs(parent or ".", exist_ok=True)
        while True:
            try:
                os.mkdir(self.folder)
                break
            except FileExistsError:
                self._name_new_folder(parent, name, claim=True)
        self._is_created = True

    def adopt_folder_name(self, folder_name: FolderName) -> None:
        """Take the folder name that another host chose for the same new run."""
        name = str(self.config.NAME)
        if self._is_new(name):
            self.folder_name = folder_name
            parent = os.path.dirname(self.folder)
            self._use_folder(os.path.join(parent, folder_name.text(name)), name)

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights to a file that knows its network (config and class names)."""
        metadata = {"config": self.config.to_dict(), "class_names": self.class_names}
        saving.save_weights(self.network, path, metadata=metadata)

    def _name_new_folder(self, parent: str | os.PathLike, name: str, claim: bool) -> None:
        minute = int(f"{datetime.datetime.now():%Y%m%d%H%M}")
        for number in itertools.count(1):
            self.folder_name = FolderName(minute, number)
            folder = os.path.join(parent, self.folder_name.text(name))
            if not claim or self._is_free(folder):
                break
        if claim:
            _claimed[folder] = self
        self._is_created = False
        self._use_folder(folder, name)

    def _is_free(self, folder: str) -> bool:
        return not os.path.exists(folder) and _claimed.get(folder, self) is self

    def _is_new(self, name: str) -> bool:
        """Whether the folder is yet to be created: neither resumed nor chosen by the user."""
        if self.folder_name is None or self._is_created:
            return False
        return os.path.basename(self.folder) == self.folder_name.text(name)

    def _use_folder(self, folder: str, name: str) -> None:
        self.folder = folder
        file_name = f"{self.network_name}_{name.lower()}_{{epoch:04d}}.h5"
        self.checkpoint_path = os.path.join(folder, file_name)
