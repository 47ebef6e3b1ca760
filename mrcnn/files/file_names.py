"""Names for new files: one that is free, one that is short enough."""

import hashlib
import os


def free_name(path: str) -> str:
    """Return the path itself, or the first of `_2`, `_3`, ... that does not exist yet."""
    free, count = path, 1
    stem, suffix = os.path.splitext(path)
    while os.path.exists(free):
        count += 1
        free = f"{stem}_{count}{suffix}"
    return free


def short_name(stem: str, ending: str, longest: int = 200) -> str:
    """Return `stem` + `ending` as a file name of at most `longest` bytes.

    A longer stem is cut, and a hash is added so that two long stems stay different. File systems
    allow 255 bytes, of which the temporary file of `atomic_write` needs some.
    """
    if len(os.fsencode(stem + ending)) <= longest:
        return stem + ending
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    ending = f"_{digest}{ending}"
    bytes_left = longest - len(os.fsencode(ending))
    return os.fsencode(stem)[:bytes_left].decode(errors="ignore") + ending
