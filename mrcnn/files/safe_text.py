"""Text from files of unknown source, made safe to print, to draw and to write into tables."""

from __future__ import annotations

import re
import unicodedata

LONGEST_NAME = 60  # characters of a class name in tables and plots; longer ones are shortened

# These reorder or hide the text around them.
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a formula in a spreadsheet


def clean_name(name: object) -> str:
    """Return a class or file name in one line, without control characters.

    They would control a terminal or break a file. Lone surrogates become U+FFFD, other control
    characters a space; spaces at the ends are removed.
    """
    return " ".join(_without_controls(str(name)).split())


def _without_controls(text: str) -> str:
    """Replace lone surrogates by U+FFFD and all control characters by spaces."""
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
    """Remove the control characters of a text of several lines, except spaces and line feeds."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(map(_without_controls, text.split("\n")))


def printable(text: object, longest: int = 300) -> str:
    """Clean a text as `clean_name` does, and cut out its middle if it is too long.

    longest: characters.
    """
    clean = clean_name(text)
    if len(clean) <= longest:
        return clean
    half = (longest - 3) // 2
    return f"{clean[:half]}...{clean[-half:]}"


def figure_text(text: object, longest: int = LONGEST_NAME) -> str:
    """Prepare a text for matplotlib: as `printable`, and `$` does not start a formula."""
    return printable(text, longest).replace("$", r"\$")


def xml_text(text: str) -> str:
    """Replace the characters that XML 1.0 cannot contain by U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def csv_cell(text: object) -> str:
    """Return a text as a CSV cell that no spreadsheet computes: `'` before a leading = + - @."""
    text = str(text)
    clean = _without_controls(text)  # spaces are kept: the cell of a path is the path
    is_formula = text.startswith(_FORMULA) or clean.startswith(_FORMULA)
    return f"'{clean}" if is_formula else clean
