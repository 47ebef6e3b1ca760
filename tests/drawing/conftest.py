"""Close matplotlib figures after each test."""

import pytest
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")
