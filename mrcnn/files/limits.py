"""What files from strangers may claim: limits on sizes, and names made fit to print.

Readers compare every claim with these limits before they allocate memory for it.
"""

from __future__ import annotations

import re
import unicodedata

MOST_PIXELS = 178_956_970  # in an image, as Pillow's own limit; RGB takes 537 MB
LONGEST_SIDE = 100_000  # pixels; a larger height or width in a file is taken for damage
MOST_MASK_BYTES = 2**31  # of all masks of an image, a byte per pixel and object
MOST_POINTS = 1_000_000  # in a polygon
LONGEST_NAME = (
    60  # characters of a class name in tables and figures; a longer one is cut in the middle
)

_BIDI = re.compile(
    "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)  # reorder or hide the text around them
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a cell that begins so


def check_size(height: int, width: int, where: str) -> None:
    """Raise a ValueError if an image of this size is more than this package reads.

    height, width: pixels, as a file claims them. where: names the file, and the entry if there is one.
    """
    if height * width > MOST_PIXELS or max(height, width) > LONGEST_SIDE:
        raise ValueError(
            f"An image must have at most {MOST_PIXELS:,} pixels, and sides of at most {LONGEST_SIDE:,}. "
            f"Received: {height:,} x {width:,} (height x width) in {where}. "
            "Try to correct the size, or to cut the image into tiles."
        )


def check_masks(count: int, height: int, width: int, where: str) -> None:
    """Raise a ValueError if so many masks of one image take more memory than `MOST_MASK_BYTES`.

    count: masks. height, width: of each, pixels. where: names the image.
    """
    if count * height * width > MOST_MASK_BYTES:
        raise ValueError(
            f"The masks of an image must take at most {MOST_MASK_BYTES / 2**30:g} GiB, a byte per pixel and object. "
            f"Received: {count:,} objects of {height:,} x {width:,} pixels in {where}. "
            "Try to cut the image and its annotations into tiles."
        )


def clean_name(name: object) -> str:
    """A class or file name in one line without control characters; they would steer a terminal or break a file.

    Lone surrogates become U+FFFD, other control characters a space; spaces at the ends are removed.
    """
    return " ".join(_without_controls(str(name)).split())


def _without_controls(text: str) -> str:
    """A text in which lone surrogates are U+FFFD, and all control characters spaces."""
    characters = []
    for character in _BIDI.sub("", text):
        category = unicodedata.category(character)
        if category == "Cs":
            characters.append("\ufffd")
        elif category in ("Cc", "Zl", "Zp"):
            characters.append(" ")
        else:
            characters.append(character)
    return "".join(characters)


def printable_lines(text: object) -> str:
    """A text of several lines as it may be printed: spaces and line feeds are kept, control characters are not."""
    text = str(text)
    return (
        text
        if text.isascii() and text.isprintable()
        else "\n".join(map(_without_controls, text.split("\n")))
    )


def printable(text: object, longest: int = 300) -> str:
    """A text from a file as it may be printed: as `clean_name`, and shortened in the middle if it is too long."""
    clean = clean_name(text)
    if len(clean) <= longest:
        return clean
    half = (longest - 3) // 2
    return f"{clean[:half]}...{clean[-half:]}"


def figure_text(text: object, longest: int = LONGEST_NAME) -> str:
    """A text from a file as matplotlib draws it: as `printable`; what stands between two `$` is no formula."""
    return printable(text, longest).replace("$", r"\$")


def csv_cell(text: object) -> str:
    """A text as a CSV cell that no spreadsheet takes for a formula: a leading = + - @ gets an apostrophe."""
    text = str(text)
    clean = _without_controls(text)  # spaces are kept: the cell of a path is the path
    return f"'{clean}" if text.startswith(_FORMULA) or clean.startswith(_FORMULA) else clean
