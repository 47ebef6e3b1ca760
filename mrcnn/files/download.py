"""Downloads: addresses, checksums, sizes and first bytes are checked before a file is kept."""

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import wrap_file

from .atomic import ExplainedError, atomic_write
from .safe_text import printable

logger = logging.getLogger("mrcnn")

_CHUNK = 1 << 20  # bytes read at a time
_TIMEOUT = 30  # seconds without a byte after which a download has failed
_MOST_BYTES = 2**36  # of a download of unknown size
# First bytes of a file by its suffix.
_MAGIC = {
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".hdf5": b"\x89HDF\r\n\x1a\n",
    ".zip": b"PK\x03\x04",
    ".keras": b"PK\x03\x04",
}


class DownloadError(ExplainedError):
    """A file could not be downloaded whole; the text names the URL, the path and the remedy."""


class _Expected(NamedTuple):
    """Known facts of the right file; None for an unknown one."""

    magic: bytes  # first bytes
    size: int | None  # bytes
    md5: str | None  # hexadecimal


def download(
    url: str,
    path: str | os.PathLike,
    md5: str | None = None,
    size: int | None = None,
    older_md5s: Sequence[str] = (),
) -> str:
    """Download a file, unless it is already there and passes the checks.

    In any case a `.h5`, `.hdf5`, `.zip` or `.keras` file must begin with the bytes of its format.

    url: address, http or https.
    path: where to put the file; it appears whole or not at all.
    md5: expected checksum, hexadecimal.
    size: expected bytes.
    older_md5s: checksums of earlier releases; a file that is already there may have one of them.

    Returns: path as a string.

    Raises:
        DownloadError: no network, an unknown address, an incomplete or a different file.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    expected = _Expected(_MAGIC.get(suffix, b""), size, md5)
    if os.path.isfile(path):
        found_md5 = None if md5 is None else _md5(path)
        if found_md5 is not None and found_md5 in older_md5s:
            return path
        problem = _problem(path, found_md5, expected)
        if problem is None:
            return path
        logger.warning("%s is not the released file (%s): downloading it again.", path, problem)
    with atomic_write(path) as part:
        try:
            found_md5 = _fetch(url, part, size)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _download_error(url, path, error) from error
        problem = _problem(part, found_md5, expected)
        if problem is not None:
            raise _download_error(url, path, problem)
    return path


def _problem(path: str, found_md5: str | None, expected: _Expected) -> str | None:
    """The difference between a file and the expected one; None if there is no difference."""
    found_size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(512)
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it must be the file itself, received a web page, perhaps of a login"
    if not head.startswith(expected.magic):
        return f"it must begin with {expected.magic!r}, received {head[: len(expected.magic)]!r}"
    if expected.size is not None and found_size != expected.size:
        return f"it must have {expected.size:,} bytes, received {found_size:,}"
    if expected.md5 is not None and found_md5 != expected.md5:
        return f"its MD5 must be {expected.md5}, received {found_md5}"
    return None


def _download_error(url: str, path: str, why: object) -> DownloadError:
    return DownloadError(
        f"{url} could not be downloaded to {path}: {printable(why)}. Try again later, or fetch the "
        f"file in a browser or on another machine and put it at {path}."
    )


def _check_address(url: str, schemes: tuple[str, ...]) -> None:
    """Raise a URLError for any other scheme: `file:` would read files of this machine."""
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
    """Download to `path`, with a progress bar on a terminal, and return the MD5.

    Raises:
        OSError: no answer, an error status, or another number of bytes than announced.
    """
    _check_address(url, ("http", "https"))
    console = Console(stderr=True)
    name = escape(printable(os.path.basename(url)))
    digest = hashlib.md5(usedforsecurity=False)
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(url, timeout=_TIMEOUT) as response, open(path, "wb") as file:
        total = int(response.headers.get("Content-Length", 0))
        most = size or total or _MOST_BYTES
        no_bar = not console.is_terminal
        with wrap_file(
            response, total, description=name, console=console, disable=no_bar
        ) as stream:
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
