"""Downloads: addresses, checksums, sizes and first bytes are checked before a file is kept."""

import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from .atomic import ExplainedError, atomic_write
from .safe_text import printable

logger = logging.getLogger("mrcnn")

_CHUNK = 1 << 20  # bytes read at a time
_TIMEOUT = 30  # seconds without a byte after which a download has failed
_MOST_BYTES = 2**36  # of a download of unknown size
_MOST_FRUITLESS = 3  # resumptions in a row that bring no more bytes
_PAUSE = 1.0  # seconds before a download is resumed; doubled after each fruitless resumption
_HDF5, _ZIP, _PICKLE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80"
# First bytes of a file by its suffix; a `.pth` file is a zip archive, or (before 2020) pickles.
_MAGIC = {
    ".h5": (_HDF5,),
    ".hdf5": (_HDF5,),
    ".zip": (_ZIP,),
    ".keras": (_ZIP,),
    ".pth": (_ZIP, _PICKLE),
    ".pkl": (_PICKLE,),
}


class DownloadError(ExplainedError):
    """A file could not be downloaded whole; the text names the URL, the path and the remedy."""


class _Expected(NamedTuple):
    """Known facts of the right file; None for an unknown one."""

    magic: tuple[bytes, ...]  # first bytes; several kinds of file may be right
    size: int | None  # bytes
    md5: str | None  # hexadecimal
    sha256: str | None  # hexadecimal, or its first digits


class _Digests:
    """The checksums of a file that is read or written piece by piece."""

    def __init__(self):
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        self.md5.update(chunk)
        self.sha256.update(chunk)


def download(
    url: str,
    path: str | os.PathLike,
    md5: str | None = None,
    size: int | None = None,
    older_md5s: Sequence[str] = (),
    sha256: str | None = None,
) -> str:
    """Download a file, unless it is already there and passes the checks.

    In any case a `.h5`, `.hdf5`, `.zip`, `.keras`, `.pth` or `.pkl` file must begin with the bytes
    of its format. A download whose connection is lost is resumed, unless nothing more arrives.

    url: address, http or https.
    path: where to put the file; it appears whole or not at all.
    md5: expected checksum, hexadecimal.
    size: expected bytes.
    older_md5s: checksums of earlier releases; a file that is already there may have one of them.
    sha256: expected checksum, hexadecimal, or its first digits.

    Returns: path as a string.

    Raises:
        DownloadError: no network, an unknown address, an incomplete or a different file.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    expected = _Expected(_MAGIC.get(suffix, (b"",)), size, md5, sha256)
    if os.path.isfile(path):
        found = _digests(path) if md5 or sha256 else _Digests()
        if found.md5.hexdigest() in older_md5s:
            return path
        problem = _problem(path, found, expected)
        if problem is None:
            return path
        logger.warning("%s is not the released file (%s): downloading it again.", path, problem)
    with atomic_write(path) as part:
        try:
            found = _fetch(url, part, size)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _download_error(url, path, error) from error
        problem = _problem(part, found, expected)
        if problem is not None:
            raise _download_error(url, path, problem)
    return path


def _problem(path: str, found: _Digests, expected: _Expected) -> str | None:
    """The difference between a file and the expected one; None if there is no difference."""
    found_size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(512)
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it must be the file itself, received a web page, perhaps of a login"
    if not head.startswith(expected.magic):
        first = " or ".join(repr(magic) for magic in expected.magic)
        received = head[: max(map(len, expected.magic))]
        return f"it must begin with {first}, received {received!r}"
    if expected.size is not None and found_size != expected.size:
        return f"it must have {expected.size:,} bytes, received {found_size:,}"
    if expected.md5 is not None and found.md5.hexdigest() != expected.md5:
        return f"its MD5 must be {expected.md5}, received {found.md5.hexdigest()}"
    sha256 = expected.sha256
    if sha256 is not None and not found.sha256.hexdigest().startswith(sha256):
        rule = "be" if len(sha256) == 64 else "begin with"
        return f"its SHA-256 must {rule} {sha256}, received {found.sha256.hexdigest()}"
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


class _CutOff(OSError):
    """The connection was lost before the file was complete."""


class _Received:
    """What has been received of a download, and which version of the file it is.

    file: the opened file that receives it.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.digests = _Digests()
        self.total = 0  # bytes announced; 0 if unknown
        self.version = ""  # the server's ETag or date of the file

    @property
    def count(self) -> int:
        """Bytes received."""
        return self.file.tell()

    def start_over(self) -> None:
        """Forget everything received."""
        self.file.seek(0)
        self.file.truncate()
        self.digests = _Digests()

    def add(self, chunk: bytes) -> None:
        """Append bytes."""
        self.file.write(chunk)
        self.digests.update(chunk)

    def request_headers(self) -> dict[str, str]:
        """The headers that ask for the rest, or for the whole file if it has changed since."""
        if not self.count:
            return {}
        headers = {"Range": f"bytes={self.count}-"}
        if self.version:
            headers["If-Range"] = self.version
        return headers

    def accept(self, response: Any) -> None:
        """Read the headers of a response: the rest of the file follows, or the whole of it."""
        content_range = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range.strip())
        if response.status == 206 and match and int(match[1]) == self.count:
            if self.total not in (0, int(match[2])):
                raise OSError(f"{int(match[2]):,} bytes announced, before it was {self.total:,}")
            return
        if response.status == 206:
            raise OSError(f"another part than the one asked for: {printable(content_range)!r}")
        self.start_over()
        self.total = int(response.headers.get("Content-Length", 0))
        etag = response.headers.get("ETag", "")
        is_strong = etag.startswith('"')  # a weak one cannot tell whether the bytes are the same
        self.version = etag if is_strong else response.headers.get("Last-Modified", "")


def _fetch(url: str, path: str, size: int | None) -> _Digests:
    """Download to `path`, with a progress bar on a terminal, and return the checksums.

    A lost connection is resumed, unless three tries in a row bring no more bytes.

    Raises:
        OSError: no answer, an error status, or another number of bytes than announced.
    """
    _check_address(url, ("http", "https"))
    name = printable(os.path.basename(url))
    most, fruitless = 0, 0
    with open(path, "wb") as file:
        received = _Received(file)
        while True:
            try:
                _receive(url, received, size)
                return received.digests
            except _CutOff as error:
                fruitless = 0 if received.count > most else fruitless + 1
                most = max(most, received.count)
                if most == 0 or fruitless > _MOST_FRUITLESS:
                    raise
                logger.warning("%s: %s; resuming.", name, error)
                time.sleep(_PAUSE * 2**fruitless)


def _receive(url: str, received: _Received, size: int | None) -> None:
    """Request a file, or the rest of it, and append it to what has been received.

    Raises:
        _CutOff: the connection was lost after the response had begun.
        OSError: no answer, an error status, or more bytes than expected.
    """
    request = urllib.request.Request(url, headers=received.request_headers())
    opener = urllib.request.build_opener(_Redirects)
    with _open_or_cut_off(opener, request, received) as response:
        received.accept(response)
        _append(response, received, os.path.basename(url), size)
    total = received.total
    if total and received.count != total:
        raise _CutOff(f"cut off after {received.count} of {total} bytes")


def _open_or_cut_off(opener: Any, request: Any, received: _Received) -> Any:
    """Open a request; no answer to a request for the rest is a lost connection."""
    try:
        return opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        if received.count:
            raise _CutOff(f"cut off after {received.count} bytes: {error}") from error
        raise


def _append(response: Any, received: _Received, name: str, size: int | None) -> None:
    """Append the bytes of a response, with a progress bar on a terminal."""
    console = Console(stderr=True)
    most = size or received.total or _MOST_BYTES
    bar = Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        total = received.total or None
        task = bar.add_task(escape(printable(name)), total=total, completed=received.count)
        while chunk := _read(response, received):
            received.add(chunk)
            bar.update(task, completed=received.count)
            if received.count > most:
                raise OSError(f"more than the {most:,} bytes that were expected")


def _read(response: Any, received: _Received) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _CutOff(f"cut off after {received.count} bytes: {error}") from error


def _digests(path: str) -> _Digests:
    digests = _Digests()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digests.update(chunk)
    return digests
