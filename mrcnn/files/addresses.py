"""Addresses of files on other machines, such as `s3://bucket/a.png`, listed and read by fsspec.

fsspec is not required: it is imported when an address is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

MOST_BYTES = 2**30  # of an image file behind an address, which is read into memory

# A closed list: some protocols of fsspec read templates, commands or other addresses from a file.
PROTOCOLS = (
    "abfs",
    "abfss",
    "az",
    "file",
    "gcs",
    "gs",
    "hdfs",
    "hf",
    "http",
    "https",
    "memory",
    "oci",
    "oss",
    "s3",
    "s3a",
    "sftp",
)
WEB = ("http", "https")  # there, a listing is a page of links


def is_url(word: str) -> bool:
    """Whether a word is the address of a file on another machine."""
    return re.match(r"[a-z][a-z0-9+.-]+://", word, re.IGNORECASE) is not None


def check_address(address: str) -> None:
    """Raise a ValueError if an address is of a protocol that is not in `PROTOCOLS`."""
    protocol = address.partition("://")[0].lower()
    if protocol not in PROTOCOLS or "::" in address:
        raise ValueError(
            f"An address must start with one of {', '.join(PROTOCOLS)} and ://. "
            f"Received: {address}. Try to copy the files to one of these first."
        )


def read_address(address: str) -> bytes:
    """Return the content of the file at an address.

    Raises: ValueError that names the address and the reason.
    """
    with open_address(address) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"An image file must have at most {MOST_BYTES:,} bytes. Received: more at {address}. "
            "Try to cut the image into tiles."
        )
    return content


def open_address(address: str) -> BinaryIO:
    """Open the file at an address for reading.

    Raises: ValueError that names the address and the reason.
    """
    return _explained(address, lambda: _fsspec().open(address, "rb").open())


def list_address(address: str) -> Iterator[str]:
    """Yield the addresses of the files that an address stands for, folder by folder.

    address: of a file, of a folder (with the folders in it), or a pattern.

    Raises: ValueError that names the address and the reason.
    """
    system, path = _explained(address, lambda: _fsspec().core.url_to_fs(address))
    is_web = address.partition("://")[0].lower() in WEB
    if is_web:
        yield address
    elif _has_magic(path):
        for found in sorted(_explained(address, lambda: system.glob(path))):
            yield system.unstrip_protocol(found)
    elif _explained(address, lambda: system.isdir(path)):
        yield from _files_below(system, path)
    else:
        yield address


def _files_below(system: Any, path: str) -> Iterator[str]:
    for folder, folders, files in system.walk(path):
        folders_in_order = sorted(folders)
        if isinstance(folders, list):  # walk() visits them in the order of this list
            folders[:] = folders_in_order
        for name in sorted(files):
            yield system.unstrip_protocol(f"{folder.rstrip('/')}/{name}")


def _has_magic(path: str) -> bool:
    return any(character in path for character in "*?[")


def _explained(address: str, do: Any) -> Any:
    """Return do(), whose errors become a ValueError that names the address."""
    check_address(address)
    try:
        return do()
    except ImportError as error:  # fsspec, or its package for a protocol, as s3fs
        raise ValueError(
            f"An address needs the packages of its protocol. Received: {address} ({error}). "
            "Try pip install fsspec, with s3fs for s3://, gcsfs for gs://, adlfs for az://."
        ) from error
    except Exception as error:  # each file system has its own errors
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error)
        raise ValueError(
            f"The file at an address must be readable. Received: {address} "
            f"({type(error).__name__}: {reason}). Try the address and your credentials with "
            "another program."
        ) from error


def _fsspec() -> Any:
    import fsspec  # pyright: ignore[reportMissingImports]  (not required)
    import fsspec.core  # pyright: ignore[reportMissingImports]

    return fsspec
