"""`images.jsonl`: the names of a job's images on the disk, each once, read block by block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..files.atomic import atomic_write


class Block(NamedTuple):
    """Images that one worker detects in one go; they become one shard.

    number: counts the blocks of a job from 0.
    """

    number: int
    names: list[str]


def write_names(path: Path, names: Iterable[str]) -> int:
    """Write names, a JSON text a line, and return their number; a repeated name is written once.

    Line feeds and undecodable bytes in names are escapes of JSON.
    """
    seen: set[bytes] = set()  # digests take less memory than long names
    with atomic_write(path) as part, open(part, "w", encoding="ascii") as file:
        for name in names:
            line = json.dumps(name)
            digest = hashlib.blake2b(line.encode(), digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                file.write(line + "\n")
    return len(seen)


class ImageList:
    """The blocks of a written list. In memory is the position of each block only."""

    def __init__(self, path: Path, block_size: int):
        self.path = path
        self.count = 0
        self._starts: list[int] = []
        position = 0
        with open(path, "rb") as file:
            for line in file:
                if self.count % block_size == 0:
                    self._starts.append(position)
                position += len(line)
                self.count += 1
        self._ends = [*self._starts[1:], position]

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self._starts)

    def block(self, number: int) -> Block:
        """Return the block of a number."""
        start, end = self._starts[number], self._ends[number]
        with open(self.path, "rb") as file:
            file.seek(start)
            lines = file.read(end - start).splitlines()
        return Block(number, [json.loads(line) for line in lines])

    def blocks(self, numbers: Iterable[int]) -> Iterator[Block]:
        """Yield the blocks of numbers, each read when it is asked for."""
        return map(self.block, numbers)
