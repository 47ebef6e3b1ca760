"""A file on the disk appears whole or not at all: written here, or downloaded."""

import hashlib
import http.client
import logging
import os
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import wrap_file

logger = logging.getLogger("mrcnn")

_CHUNK = 1 << 20  # bytes read at a time
_TIMEOUT = 30  # seconds without a byte until a download counts as dead


class DownloadError(OSError):
    """A file could not be fetched whole; the text names the URL, the target path and the remedy."""


@contextmanager
def whole_file(path: str):
    """A path beside `path`; what the block writes there takes the place of `path`, if the block succeeds."""
    part = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except DownloadError:
        raise
    except (OSError, RuntimeError) as error:  # HDF5 reports some failed writes as RuntimeError
        raise OSError(
            f"{path} must be writable. Received: {reason(error)}; what was there before is untouched. "
            "Try freeing disk space, checking the folder's permissions, or another folder."
        ) from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def remove_parts(folder: str) -> None:
    """Delete what processes that are no longer there were writing when they were killed."""
    for part in Path(folder).glob("*.part"):
        pid = part.name.split(".")[-2]
        try:
            os.kill(int(pid), 0)  # sends nothing: asks whether the process is there
        except (ValueError, PermissionError):
            continue  # another's name, or another's process
        except OSError:
            part.unlink(missing_ok=True)


def free_name(path: str) -> str:
    """The path itself, or where there is such a file, the first of `_2`, `_3`, ... that is free."""
    free, count, (stem, suffix) = path, 1, os.path.splitext(path)
    while os.path.exists(free):
        count += 1
        free = f"{stem}_{count}{suffix}"
    return free


def short_name(stem: str, ending: str, longest: int = 200) -> str:
    """`stem` + `ending` as the name of a file; a stem too long for it is cut, and a hash tells it from others.

    longest: bytes; file systems allow 255, of which the part of `whole_file` needs some.
    """
    if len(os.fsencode(stem + ending)) <= longest:
        return stem + ending
    ending = f"_{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{ending}"
    room = longest - len(os.fsencode(ending))
    return os.fsencode(stem)[:room].decode(errors="ignore") + ending


def reason(error: Exception) -> str:
    """An error in one line: HDF5's are long, and carry the system's own reason."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error).split("\n")[0]


def download(url: str, path: str | os.PathLike, md5: str | None = None, *older: str) -> str:
    """The path, after the file of that URL was put there; one already there with a known checksum is kept.

    url: address to fetch.
    path: where to put the file; it appears whole or not at all.
    md5: expected checksum, hexadecimal; None: only the size is checked.
    older: checksums of earlier releases, good enough for a file that is already there.

    Raises:
        DownloadError: no network, no such file, cut off, or another checksum.
    """
    path = os.fspath(path)
    if os.path.isfile(path):
        if md5 is None or _md5(path) in (md5, *older):
            return path
        logger.warning("%s has another checksum than the released file: downloading it again.", path)
    with whole_file(path) as part:
        try:
            received = _fetch(url, part)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _download_error(url, path, error) from error
        if md5 is not None and received != md5:
            raise _download_error(url, path, f"its MD5 must be {md5}, received {received}")
    return path


def _download_error(url: str, path: str, why) -> DownloadError:
    return DownloadError(
        f"{url} could not be downloaded to {path}: {why}. Try again later, or fetch the file in a browser "
        f"or on another machine and put it at {path}."
    )


def _fetch(url: str, path: str) -> str:
    """The MD5 of what was downloaded to `path`, with a progress bar on a terminal.

    Raises:
        OSError: no answer, an error status, or fewer bytes than announced.
    """
    console = Console(stderr=True)
    bar = {"description": os.path.basename(url), "console": console, "disable": not console.is_terminal}
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, open(path, "wb") as file:
        total = int(response.headers.get("Content-Length", 0))
        with wrap_file(response, total, **bar) as stream:
            while chunk := stream.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
        if total and file.tell() != total:
            raise OSError(f"cut off after {file.tell()} of {total} bytes")
    return digest.hexdigest()


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
