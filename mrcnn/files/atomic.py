"""Atomic writes: a file appears whole or not at all."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# .NAME.PID.RANDOM.part; earlier releases wrote NAME.PID.part. A process id has at most nine digits.
_PART = re.compile(r".+\.([1-9]\d{0,8})(?:\.[0-9a-f]{8})?\.part", re.DOTALL)


class ExplainedError(OSError):
    """An error whose text already names the file, the reason and the remedy."""


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[str]:
    """Replace the file at `path` by what the block writes, only if the block succeeds.

    Yields:
        The path of an empty temporary file in the same folder, which the block has to write.

    Raises:
        OSError: the file cannot be written (full disk, no permission); the old file is unchanged.
    """
    part = None
    try:
        part = _new_part(path)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except ExplainedError:
        raise
    except (OSError, RuntimeError) as error:  # HDF5 reports some failed writes as RuntimeError
        raise OSError(
            f"{path} must be writable. Received: {reason(error)}; the file that was there before "
            "is unchanged. Try freeing disk space, checking the folder's permissions, or another "
            "folder."
        ) from error
    finally:
        if part is not None and os.path.lexists(part):
            os.remove(part)


def _new_part(path: str | os.PathLike) -> str:
    """Create an empty temporary file in the folder of `path` and return its path.

    Its name is random, so that an attacker cannot have put a link there. It begins with a dot,
    because scripts search for the last checkpoint among the names that begin with `mask_rcnn`.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    short = os.fsdecode(os.fsencode(name)[:200])  # a file name has at most 255 bytes
    part = os.path.join(folder, f".{short}.{os.getpid()}.{secrets.token_hex(4)}.part")
    # Not `tempfile`: only the user who made them can read its files.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part


def remove_parts(folder: str | os.PathLike) -> None:
    """Delete the temporary files of `atomic_write` in a folder whose processes were killed."""
    if os.name == "nt":  # there, os.kill(pid, 0) ends the process
        return
    for part in Path(folder).glob("*.part"):  # pathlib's `*` also matches a leading dot
        match = _PART.fullmatch(part.name)
        if match is None or part.is_symlink() or not part.is_file():
            continue  # a file of another program
        if not _is_running(int(match[1])):
            part.unlink(missing_ok=True)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)  # signal 0 only asks whether the process exists
    except PermissionError:
        return True  # a process of another user
    except ProcessLookupError:
        return False
    return True


def reason(error: Exception) -> str:
    """The reason of an error in one line.

    HDF5's messages have several hundred characters, with the system's error number among them.
    """
    number = getattr(error, "errno", None)
    if number is None:
        text = str(error).partition("errno = ")[2].partition(",")[0]
        number = int(text) if text.isdecimal() else None
    return os.strerror(number) if number else str(error).split("\n")[0]
