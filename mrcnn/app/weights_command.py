"""`mrcnn weights`: the table of released weights, and their downloads."""

from __future__ import annotations

import os

from ..weights.zoo import cache_path, cached, close_names, names, row_of
from ..weights.zoo_table import RELEASED, Released
from .cli_support import OK, UsageError, say

_MEGABYTE = 1_000_000
_COLUMNS = ("name", "classes", "box AP", "mask AP", "size", "in the cache")


def run(args) -> int:
    """Run `mrcnn weights`."""
    if not args.names:
        say(_table())
        return OK
    rows = [_row_of(name) for name in args.names]
    for row in rows:
        say(cached(row.file))
    return OK


def _row_of(name: str) -> Released:
    row = row_of(name)
    if row is None:
        close = " or ".join(close_names(name) or names())
        raise UsageError(
            f"NAME must be a name that `mrcnn weights` lists. Received: {name}. Try {close}."
        )
    return row


def _table() -> str:
    """The table of released weights, then each row's network, licence and file."""
    cells = [_COLUMNS, *(_cells(row) for row in RELEASED)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    lines += ["", "AP: COCO's, in percent, as published.", ""]
    for row in RELEASED:
        lines += _details(row)
    return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *others]).rstrip()


def _cells(row: Released) -> tuple[str, ...]:
    size = "unknown" if row.file.size is None else f"{row.file.size / _MEGABYTE:.0f} MB"
    return (
        row.name,
        str(len(row.categories)),
        f"{row.box_ap:.1f}",
        "-" if row.mask_ap is None else f"{row.mask_ap:.1f}",
        size,
        "yes" if os.path.isfile(cache_path(row.file)) else "no",
    )


def _details(row: Released) -> list[str]:
    also = f" (also {', '.join(row.aliases)})" if row.aliases else ""
    return [
        f"{row.name}{also}: {row.network}",
        f"    licence: {row.licence}",
        f"    AP: {row.ap_source}",
        f"    file: {cache_path(row.file)}",
    ]
