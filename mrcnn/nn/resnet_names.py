"""The letters of a ResNet's blocks in matterport's names of its layers."""

from __future__ import annotations


def block_letters(block: int) -> str:
    """Return the letters of a block: a to z, then aa, ab ... (block: a scalar, counted from 0).

    matterport has 23 blocks at most; a stage of ResNet152 has 36.
    """
    letter = chr(ord("a") + block % 26)
    return letter if block < 26 else block_letters(block // 26 - 1) + letter
