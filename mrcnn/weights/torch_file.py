"""Read the object that `torch.save` wrote, in a zip archive or in the older container.

The numbers stay in the file: each storage becomes a view of it.
"""

from __future__ import annotations

from typing import Any

from ..files import stored_zip
from ..files.mapped_file import RefusedContent
from ..files.safe_pickle import MOST_STEPS, Loaded, Table, latin1_bytes, load
from .torch_tensors import ALLOWED, Storage, Storages

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = 8  # bytes of a count of numbers, in the older container
_NESTED_STEPS = 100  # of each pickle of a nested file; torch.save writes at most 60


def is_torch_zip(data: memoryview) -> bool:
    """Whether a file is a zip archive as torch.save writes them, or the beginning of one."""
    if bytes(data[:4]) != stored_zip.LOCAL_HEADER:
        return False
    if _is_pickle_name(stored_zip.first_name(data)):
        return True
    try:
        return any(map(_is_pickle_name, stored_zip.entries(data)))
    except RefusedContent:
        return False


def _is_pickle_name(name: str) -> bool:
    return name.endswith("/data.pkl") and name.count("/") == 1


def is_old_container(data: memoryview) -> bool:
    """Whether a file begins as `torch.save` of before PyTorch 1.6 did."""
    # PROTO 2, LONG1 of ten bytes
    return bytes(data[:14]) == b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def read_zip(data: memoryview) -> Any:
    """Return the saved object; its tensors are `torch_tensors.Tensor`.

    data: the bytes of the file.

    Raises:
        RefusedContent: not such a file, or one with anything but tensors and containers.
    """
    entries = stored_zip.entries(data)
    pickles = [name for name in entries if _is_pickle_name(name)]
    if len(pickles) != 1:
        raise RefusedContent(f"a zip archive with {len(pickles)} entries data.pkl in place of one")
    root = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(stored_zip.read(data, order)[:10]) != b"little":
        raise _big_endian()
    storages = Storages()
    value = load(stored_zip.read(data, entries[pickles[0]]), ALLOWED, storages.load).value
    for key, storage in storages.by_key.items():
        entry = entries.get(f"{root}data/{key}")
        if entry is not None:
            storage.data = stored_zip.read(data, entry)
    return value


def read_pickle(data: memoryview) -> Any:
    """Return the object of a plain pickle, in which each storage of a tensor is a nested file.

    data: the bytes of the file.

    Raises:
        RefusedContent: as `read_zip`.
    """
    return load(data, PICKLE).value


def _load_from_bytes(nested: Any) -> Storage:
    """Stand for `torch.storage._load_from_bytes`: a storage that torch.save wrote in a pickle."""
    storage = read_old_container(memoryview(latin1_bytes(nested)), _NESTED_STEPS)
    if not isinstance(storage, Storage):
        raise RefusedContent("whose pickle has a nested file that is no storage")
    return storage


# A nested file may not nest others.
PICKLE: Table = {**ALLOWED, "torch.storage._load_from_bytes": _load_from_bytes}


def read_old_container(data: memoryview, most_steps: int = MOST_STEPS) -> Any:
    """Return the saved object, as `read_zip` does.

    The file is a row of pickles, each behind the other: a magic number, a version, a description
    of the machine, the object and the keys of the storages; then each storage, count first.

    most_steps: of each pickle, see `safe_pickle.load`.
    """
    storages = Storages()
    end = 0
    header = []
    for _ in range(3):
        value, end = load(data, {}, start=end, most_steps=most_steps)
        header.append(value)
    magic, protocol, machine = header
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not isinstance(machine, dict):
        raise RefusedContent("that is no file of torch.save")
    if machine.get("little_endian") is not True:
        raise _big_endian()
    loaded = load(data, ALLOWED, storages.load, end, most_steps)
    keys = load(data, {}, start=loaded.end, most_steps=most_steps)
    _read_storages(data, keys, storages)
    return loaded.value


def _read_storages(data: memoryview, keys: Loaded, storages: Storages) -> None:
    position = keys.end
    for key in _checked_keys(keys.value, storages):
        storage = storages.by_key[key]
        start = position + _COUNT
        position = start + storage.size
        count = int.from_bytes(data[start - _COUNT : start], "little", signed=True)
        if count != storage.count or position > len(data):
            raise RefusedContent(
                f"that is cut off or damaged: a storage of {storage.size:,} bytes is not at "
                f"byte {start:,}"
            )
        storage.data = data[start:position]


def _checked_keys(keys: Any, storages: Storages) -> list[str]:
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(storages.by_key):
        raise RefusedContent("whose list of storages is not that of its tensors")
    return keys


def _big_endian() -> RefusedContent:
    return RefusedContent(
        "from a machine of the other byte order", "saving it again on a little-endian machine"
    )
