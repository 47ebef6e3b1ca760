"""`mrcnn weights`: this package's models and the released weights, their cards and downloads."""

from __future__ import annotations

import os

from ..weights.shipped import Shipped, shipped_models
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
        if isinstance(row, Shipped):
            say(row.card)
            say(row.weights)
        else:
            say(cached(row.file))
    return OK


def _row_of(name: str) -> Released | Shipped:
    of_package = {model.name: model for model in shipped_models()}
    row = of_package.get(name) or row_of(name)
    if row is None:
        close = " or ".join(close_names(name) or names())
        raise UsageError(
            f"NAME must be a name that `mrcnn weights` lists. Received: {name}. Try {close}."
        )
    return row


def _table() -> str:
    """The table of models and released weights, then each row's network, licence and file."""
    models = shipped_models()
    cells = [_COLUMNS, *map(_cells_of_model, models), *map(_cells, RELEASED)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    measured = "; of this package's models on the data of their cards" if models else ""
    lines += ["", f"AP: COCO's, as published{measured}.", ""]
    for model in models:
        lines += _details_of_model(model)
    for row in RELEASED:
        lines += _details(row)
    return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *others]).rstrip()


def _cells_of_model(model: Shipped) -> tuple[str, ...]:
    results = model.results
    return (
        model.name,
        str(len(model.metadata["class_names"]) - 1),
        f"{results.box_ap:.3f}",
        "-" if results.mask_ap is None else f"{results.mask_ap:.3f}",
        f"{model.weights.stat().st_size / _MEGABYTE:.0f} MB",
        "in the package",
    )


def _details_of_model(model: Shipped) -> list[str]:
    return [
        f"{model.name}: {model.title} (mrcnn weights {model.name} prints the card)",
        f"    licence: {model.licence}",
        f"    AP: {model.results.data}",
        f"    file: {model.weights}",
    ]


def _cells(row: Released) -> tuple[str, ...]:
    size = "unknown" if row.file.size is None else f"{row.file.size / _MEGABYTE:.0f} MB"
    return (
        row.name,
        str(len(row.categories)),
        f"{row.box_ap / 100:.3f}",
        "-" if row.mask_ap is None else f"{row.mask_ap / 100:.3f}",
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
