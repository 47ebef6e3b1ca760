"""Tables of values and of a model's weights, in a notebook or a terminal."""

import sys

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..files.limits import printable_lines


def display_table(table) -> None:
    """Shows a list of rows as a table: HTML in a notebook, plain text elsewhere."""
    notebook = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if notebook is not None and hasattr(notebook, "kernel"):
        from IPython.display import HTML, display  # not a dependency: only notebooks have it

        rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in table)
        display(HTML("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"))
        return
    grid = Table.grid(padding=(0, 2))
    for row in table:
        grid.add_row(*(Text(printable_lines(cell)) for cell in row))
    Console().print(grid)


def display_weight_stats(model) -> None:
    """Shows minimum, maximum and spread of every weight that can be trained, and marks those that look wrong.

    model: a MaskRCNN
    """
    table = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for layer in model.get_trainable_layers():
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            numbers = (values.min(), values.max(), values.std())
            table.append(
                [
                    getattr(weight, "path", weight.name) + _weight_alert(layer, weight, values),
                    str(values.shape),
                    *(f"{number:+9.4f}" for number in numbers),
                ]
            )
    display_table(table)


def _weight_alert(layer, weight, values) -> str:
    """A mark after the name of a weight that is constant, enormous or not a number."""
    if not np.isfinite(values).all():
        return " *** not finite"
    if np.abs(values).max() > 1000:
        return " *** overflow?"
    may_be_constant = (
        type(layer).__name__.endswith("Conv2D") and weight.name == "bias"
    )  # zeros at the start
    return " *** dead?" if values.min() == values.max() and not may_be_constant else ""
