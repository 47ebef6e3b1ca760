"""Small files as torch.save writes them, and pickles that torch would not write."""

import io
import lzma
import pickle
import zipfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "reference" / "pth"
WITH_VALUES = ("small_zip", "small_legacy", "small_checkpoint_zip")
SMALL = (*WITH_VALUES, "small_state_dict_with_metadata_zip")


def small(name: str) -> bytes:
    """The bytes of a file that torch wrote."""
    return lzma.decompress((FOLDER / f"{name}.pth.xz").read_bytes())


def values() -> dict[str, np.ndarray]:
    """The tensors of `WITH_VALUES`; bfloat16 as float32."""
    with np.load(FOLDER / "small_values.npz") as file:
        return dict(file)


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    """An entry of 1980: with the time of now the same test would have two names."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = method
    return entry


def torch_zip(pickled: bytes, storages: dict[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    """A file in torch's zip container."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr(_entry("x/data.pkl", method), pickled)
        for key, data in storages.items():
            archive.writestr(_entry(f"x/data/{key}", method), data)
    return made.getvalue()


def plain(value: object) -> bytes:
    """The instructions that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(offset=0, shape=(2, 3), strides=(3, 1), count=6, kind="Float", **changes) -> bytes:
    """The pickle of `{"a": tensor}`, with any numbers.

    changes: "word", "key", "storage": the parts of the persistent id, and the whole.
    """
    kind_name = f"ctorch\n{kind}Storage\n".encode()
    default = b"(" + plain(changes.get("word", "storage")) + kind_name
    default += plain(changes.get("key", "0")) + plain("cpu") + plain(count) + b"tQ"
    storage = changes.get("storage", default)
    arguments = storage + b"".join(map(plain, (offset, shape, strides, False, {})))
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
    return b"\x80\x02}" + plain("a") + made + b"s."
