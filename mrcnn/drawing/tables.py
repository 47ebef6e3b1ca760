"""Tables of values and of a model's weights, in a notebook or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..files.safe_text import printable_lines


def display_table(table: Iterable[Sequence[Any]]) -> None:
    """Show rows of cells as a table: HTML in a notebook, plain text elsewhere."""
    if _in_notebook():
        _display_html(table)
        return
    grid = Table.grid(padding=(0, 2))
    for row in table:
        grid.add_row(*(Text(printable_lines(cell)) for cell in row))
    Console().print(grid)


def _in_notebook() -> bool:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")


def _display_html(table: Iterable[Sequence[Any]]) -> None:
    from IPython.display import HTML, display  # no requirement: only notebooks have it

    rows = []
    for row in table:
        cells = "".join(f"<td>{cell}</td>" for cell in row)
        rows.append(f"<tr>{cells}</tr>")
    display(HTML("<table>" + "".join(rows) + "</table>"))


def display_weight_stats(model: Any) -> None:
    """Show minimum, maximum and standard deviation of every trainable weight; mark odd ones.

    model: a MaskRCNN.
    """
    table = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for layer in model.get_trainable_layers():
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            name = getattr(weight, "path", weight.name)
            stats = (values.min(), values.max(), values.std())
            table.append(
                [
                    name + _weight_alert(layer, weight, values),
                    str(values.shape),
                    *(f"{number:+9.4f}" for number in stats),
                ]
            )
    display_table(table)


def _weight_alert(layer: Any, weight: Any, values: np.ndarray) -> str:
    """Return a mark for a weight that is constant, enormous or not a number."""
    if not np.isfinite(values).all():
        return " *** not finite"
    if np.abs(values).max() > 1000:
        return " *** overflow?"
    # Biases of convolutions are zero until the first training step.
    is_bias = type(layer).__name__.endswith("Conv2D") and weight.name == "bias"
    if values.min() == values.max() and not is_bias:
        return " *** dead?"
    return ""
