"""A file on the disk appears whole or not at all: written here, or downloaded."""

import hashlib
import http.client
import logging
import os
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import wrap_file

from .limits import printable

logger = logging.getLogger("mrcnn")

_CHUNK = 1 << 20  # bytes read at a time
_TIMEOUT = 30  # seconds without a byte until a download counts as dead
_MOST_BYTES = 2**36  # of a download whose size nobody says
# How files of a suffix begin.
_MAGIC = {
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".hdf5": b"\x89HDF\r\n\x1a\n",
    ".zip": b"PK\x03\x04",
    ".keras": b"PK\x03\x04",
}
# .NAME.PID.RANDOM.part; earlier releases wrote NAME.PID.part. A process id of more than nine digits is none.
_PART = re.compile(r".+\.([1-9]\d{0,8})(?:\.[0-9a-f]{8})?\.part", re.DOTALL)


class DownloadError(OSError):
    """A file could not be fetched whole; the text names the URL, the target path and the remedy."""


@contextmanager
def atomic_write(path: str):
    """A path beside `path`; what the block writes there takes the place of `path`, if the block succeeds."""
    part = None
    try:
        part = _new_part(path)
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
        if part is not None and os.path.lexists(part):
            os.remove(part)


def _new_part(path: str | os.PathLike) -> str:
    """A new, empty file in the folder of `path`; its name cannot be foreseen, so nobody has put a link there.

    It begins with a dot: scripts look for the last checkpoint among the names that begin with `mask_rcnn`.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    short = os.fsdecode(os.fsencode(name)[:200])  # a file name has at most 255 bytes
    part = os.path.join(folder, f".{short}.{os.getpid()}.{secrets.token_hex(4)}.part")
    # Not `tempfile`, whose files nobody else may read.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part


def remove_parts(folder: str) -> None:
    """Delete what processes that are no longer there were writing when they were killed."""
    if os.name == "nt":  # there `os.kill` is no question
        return
    for part in Path(folder).glob("*.part"):  # pathlib's `*` also finds names that begin with a dot
        match = _PART.fullmatch(part.name)
        if match is None or part.is_symlink() or not part.is_file():
            continue  # another's
        try:
            os.kill(int(match[1]), 0)  # sends nothing: asks whether the process is there
        except PermissionError:
            continue  # another user's process
        except ProcessLookupError:
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

    longest: bytes; file systems allow 255, of which the part of `atomic_write` needs some.
    """
    if len(os.fsencode(stem + ending)) <= longest:
        return stem + ending
    ending = f"_{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{ending}"
    room = longest - len(os.fsencode(ending))
    return os.fsencode(stem)[:room].decode(errors="ignore") + ending


def reason(error: Exception) -> str:
    """An error in one line: HDF5's are long, and carry the system's own reason."""
    number = getattr(error, "errno", None)
    said = (
        str(error).partition("errno = ")[2].partition(",")[0]
    )  # by HDF5, within a text of several hundred letters
    if number is None and said.isdecimal():
        number = int(said)
    return os.strerror(number) if number else str(error).split("\n")[0]


def download(
    url: str, path: str | os.PathLike, md5: str | None = None, *older: str, size: int | None = None
) -> str:
    """The path, after the file of that URL was put there; one already there that passes the checks is kept.

    Whatever else is known, a `.h5`, `.zip` or `.keras` file must begin as such files do.

    url: address to fetch, http or https.
    path: where to put the file; it appears whole or not at all.
    md5: expected checksum, hexadecimal.
    older: checksums of earlier releases, good enough for a file that is already there.
    size: expected bytes.

    Raises:
        DownloadError: no network, no such file, cut off, or another file than expected.
    """
    path = os.fspath(path)
    if os.path.isfile(path):
        found = _md5(path) if md5 is not None else None
        wrong = (
            None
            if found is not None and found in older
            else _what_is_wrong(path, path, found, md5, size)
        )
        if wrong is None:
            return path
        logger.warning("%s is not the released file (%s): downloading it again.", path, wrong)
    with atomic_write(path) as part:
        try:
            received = _fetch(url, part, size)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _download_error(url, path, error) from error
        wrong = _what_is_wrong(part, path, received, md5, size)
        if wrong is not None:
            raise _download_error(url, path, wrong)
    return path


def _what_is_wrong(
    file: str, path: str, found: str | None, md5: str | None, size: int | None
) -> str | None:
    """What tells a file from the expected one; None if nothing does. path: has the suffix. found: its MD5."""
    bytes_there = os.path.getsize(file)
    with open(file, "rb") as content:
        head = content.read(512)
    magic = _MAGIC.get(os.path.splitext(path)[1].lower(), b"")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it must be the file itself, received a web page, perhaps of a login"
    if not head.startswith(magic):
        return f"it must begin with {magic!r}, received {head[: len(magic)]!r}"
    if size is not None and bytes_there != size:
        return f"it must have {size:,} bytes, received {bytes_there:,}"
    if md5 is not None and found != md5:
        return f"its MD5 must be {md5}, received {found}"
    return None


def _download_error(url: str, path: str, why) -> DownloadError:
    return DownloadError(
        f"{url} could not be downloaded to {path}: {printable(why)}. Try again later, or fetch the file in a browser "
        f"or on another machine and put it at {path}."
    )


def _check_address(url: str, schemes: tuple[str, ...]) -> None:
    """Raise a URLError unless the address has one of these schemes: `file:` would read this machine's files."""
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in schemes:
        raise urllib.error.URLError(
            f"the address must begin with {' or '.join(schemes)}, received {url}"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and from https to https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_address(newurl, ("https",) if req.type == "https" else ("http", "https"))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, path: str, size: int | None) -> str:
    """The MD5 of what was downloaded to `path`, with a progress bar on a terminal.

    Raises:
        OSError: no answer, an error status, or another number of bytes than announced.
    """
    _check_address(url, ("http", "https"))
    console = Console(stderr=True)
    name = escape(printable(os.path.basename(url)))
    bar = {"description": name, "console": console, "disable": not console.is_terminal}
    digest = hashlib.md5(usedforsecurity=False)
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(url, timeout=_TIMEOUT) as response, open(path, "wb") as file:
        total = int(response.headers.get("Content-Length", 0))
        most = size or total or _MOST_BYTES
        with wrap_file(response, total, **bar) as stream:
            while chunk := stream.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                if file.tell() > most:
                    raise OSError(f"more than the {most:,} bytes that were expected")
        if total and file.tell() != total:
            raise OSError(f"cut off after {file.tell()} of {total} bytes")
    return digest.hexdigest()


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
