"""Limits on the sizes that a file from an unknown source may claim.

Readers compare every claim with these limits before they allocate memory.
"""

from __future__ import annotations

MOST_PIXELS = 178_956_970  # in an image, as Pillow's own limit; RGB takes 537 MB
LONGEST_SIDE = 100_000  # pixels; a larger height or width in a file is treated as damage
MOST_MASK_BYTES = 2**31  # of all masks of an image, a byte per pixel and object
MOST_POINTS = 1_000_000  # in a polygon


def check_size(height: int, width: int, where: str, most: int | None = None) -> None:
    """Raise a ValueError if an image is larger than this package reads.

    height, width: pixels, as a file claims them.
    where: names the file, and the entry if there is one.
    most: pixels; default `MOST_PIXELS`.
    """
    most = MOST_PIXELS if most is None else most
    if height * width > most or max(height, width) > LONGEST_SIDE:
        raise ValueError(
            f"An image must have at most {most:,} pixels, and sides of at most "
            f"{LONGEST_SIDE:,}. Received: {height:,} x {width:,} (height x width) in {where}. "
            "Try to correct the size, or to cut the image into tiles."
        )


def check_masks(count: int, height: int, width: int, where: str) -> None:
    """Raise a ValueError if the masks of one image take more memory than `MOST_MASK_BYTES`.

    count: number of masks.
    height, width: of each mask, pixels.
    where: names the image.
    """
    if count * height * width > MOST_MASK_BYTES:
        raise ValueError(
            f"The masks of an image must take at most {MOST_MASK_BYTES / 2**30:g} GiB, a byte per "
            f"pixel and object. Received: {count:,} objects of {height:,} x {width:,} pixels in "
            f"{where}. Try to cut the image and its annotations into tiles."
        )
