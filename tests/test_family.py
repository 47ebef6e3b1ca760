"""docs/family.md: its table says what the table of released weights and the networks say."""

import re
from pathlib import Path
from typing import NamedTuple

import keras
import pytest

from mrcnn.detection_model import model_class
from mrcnn.weights import zoo
from mrcnn.weights.zoo_table import RELEASED, Released

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "family.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """A row of the page about a network whose weights are released."""

    released: Released
    parameters: float  # millions
    gflop: float
    published: str


def rows() -> list[Row]:
    found = []
    table = PAGE[PAGE.index("## The networks") : PAGE.index("- **Settings**")]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        named = [zoo.row_of(name) for name in re.findall(r"`(\w+)`", line)]
        for released in filter(None, named):
            parameters, gflop = cells[2].removesuffix(" M"), cells[3].replace(",", "")
            found.append(Row(released, float(parameters), float(gflop), cells[6]))
    return found


by_name = pytest.mark.parametrize("row", rows(), ids=lambda row: row.released.name)


def test_every_released_network_has_a_row():
    assert sorted(row.released.name for row in rows()) == sorted(row.name for row in RELEASED)


@by_name
def test_published_ap_is_that_of_the_zoo(row):
    aps = [row.released.box_ap, row.released.mask_ap]
    found = row.published.split(", keypoints ")
    assert found[0] == " / ".join(f"{ap / 100:.3f}" for ap in aps if ap is not None)
    assert row.released.ap_source.count("keypoint AP " + found[-1]) == len(found) - 1


@pytest.mark.slow
@by_name
def test_parameters_and_gflop_are_those_of_the_network(row, tmp_path):
    config = row.released.config()
    found = model_class(config)("inference", config, tmp_path).complexity((512, 512))
    assert row.parameters == round(found.parameters / 1e6, 1)
    assert row.gflop == round(found.gflop)
    keras.backend.clear_session()
