"""Read the tensors of PyTorch's, detectron2's, Caffe2's and safetensors files, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..files.mapped_file import RefusedContent, map_file
from ..files.pickled_numpy import PickledArray
from ..files.safe_text import printable
from . import caffe2_names
from .safetensors_file import is_safetensors, read_safetensors
from .torch_file import is_old_container, is_torch_zip, read_old_container, read_pickle, read_zip
from .torch_tensors import Tensor

MOST_TENSORS = 20_000  # a Mask R-CNN with ResNet101 has 700
_MOST_SHARING = 2  # bytes of all tensors, in sizes of the file
_STATE_DICTS = ("model", "state_dict", "model_state_dict")  # of training checkpoints
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_BACKBONE = ("stem.", "res2.", "res3.", "res4.", "res5.")  # detectron2's, of a ResNet


class NamedTensors(NamedTuple):
    """The tensors of a file.

    tensors: name -> array, read-only; a view of the file unless its numbers had to be converted.
    kind: "torch", "detectron2", "caffe2" (the first kernel reads BGR) or "safetensors".
    """

    tensors: dict[str, np.ndarray]
    kind: str


def is_tensor_file(path: str | os.PathLike) -> bool:
    """Whether a file begins as one that `read_tensors` reads; others may be HDF5.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, a device or a pipe.
    """
    try:
        return _reader(map_file(path)) is not None
    except RefusedContent:  # an empty file
        return False


def read_tensors(path: str | os.PathLike) -> NamedTensors:
    """Read the tensors of a file: its weights if it is a training checkpoint.

    Of the prefixes that wrappers add to all names ("module."), the names are freed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a file of tensors, a damaged one, or one that holds or claims anything but
            tensors of plain numbers and their containers. No code of the file is executed.
    """
    try:
        return _read(map_file(path))
    except RefusedContent as error:
        raise ValueError(
            "The file must hold tensors of plain numbers, and nothing else but their containers. "
            f"Received: {os.fspath(path)!r}, {error.what}. Try {error.remedy}."
        ) from error


_Reader = Callable[[memoryview], NamedTensors]


def _read(data: memoryview) -> NamedTensors:
    reader = _reader(data)
    if reader is None:
        raise RefusedContent(
            "which begins as no file of torch.save (.pth, .pt), pickle (.pkl) or safetensors does",
            "another file, or --weights with a .h5 file",
        )
    return reader(data)


def _reader(data: memoryview) -> _Reader | None:
    """Choose the reader by the first bytes."""
    if is_torch_zip(data):
        return lambda data: _from_torch(read_zip(data), len(data))
    if is_old_container(data):
        return lambda data: _from_torch(read_old_container(data), len(data))
    if len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5:  # PROTO, version
        return _read_pickle
    if is_safetensors(data):
        return lambda data: NamedTensors(read_safetensors(data), "safetensors")
    return None


def _from_torch(saved: Any, file_size: int) -> NamedTensors:
    return NamedTensors(_without_prefix(_arrays(_state_dict(saved), file_size)), "torch")


def _read_pickle(data: memoryview) -> NamedTensors:
    """Read a pickle of detectron2, or of Caffe2."""
    saved = read_pickle(data)
    is_caffe2 = isinstance(saved, dict) and isinstance(saved.get("blobs"), dict)
    arrays = _arrays(saved["blobs"] if is_caffe2 else _state_dict(saved), len(data))
    if is_caffe2 or caffe2_names.is_caffe2(arrays):
        return NamedTensors(caffe2_names.torchvision_names(arrays), "caffe2")
    if saved.get("matching_heuristics"):
        arrays = {_full_name(name): array for name, array in arrays.items()}
    return NamedTensors(_without_prefix(arrays), "detectron2")


def _full_name(name: str) -> str:
    """The name that detectron2's heuristics find for a weight of a ResNet."""
    return f"backbone.bottom_up.{name}" if name.startswith(_BACKBONE) else name


def _state_dict(saved: Any) -> dict[str, Any]:
    """The state dict in a saved object: the object itself, or an entry of a checkpoint."""
    if not isinstance(saved, dict):
        raise RefusedContent("which holds no state dict", "saving model.state_dict()")
    for key in _STATE_DICTS:
        if isinstance(saved.get(key), dict):
            return saved[key]
    return saved


def _arrays(state_dict: Mapping[str, Any], file_size: int) -> dict[str, np.ndarray]:
    if len(state_dict) > MOST_TENSORS:
        raise RefusedContent(f"with {len(state_dict):,} tensors, of at most {MOST_TENSORS:,}")
    arrays, size = {}, 0
    for name, array in _each_array(state_dict):
        size += array.nbytes
        if size > _MOST_SHARING * file_size:
            raise RefusedContent(f"of {file_size:,} bytes, whose tensors claim {size:,} and more")
        arrays[name] = array
    return arrays


def _each_array(state_dict: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor | PickledArray):
            raise RefusedContent(
                f"whose entry {printable(name)!r} is no tensor",
                "a state dict, or a checkpoint with one of the entries " + ", ".join(_STATE_DICTS),
            )
        yield name, value.array()


def _without_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in _PREFIXES:
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays
