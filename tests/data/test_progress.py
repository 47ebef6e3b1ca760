"""Progress of a loop: lines in a log, a bar on a terminal."""

import io

import pytest
from rich.console import Console

from mrcnn.data import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances 20 seconds with each look at it."""
    times = iter(range(0, 10_000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))


def test_no_items_give_no_line(caplog, capsys):
    assert list(progress.with_progress([], "Checking")) == []
    assert caplog.messages == [] and capsys.readouterr() == ("", "")


def test_line_every_thirty_seconds_without_a_terminal(clock, caplog, capsys):
    with caplog.at_level("INFO", logger="mrcnn"):
        assert list(progress.with_progress("abcd", "Checking")) == list("abcd")
    # The clock reads 0 at the start and 20, 40, 60, 80 s before the items; lines at 40 and 80:
    # 1 item took 40 s, so 3 take 120 s; 3 items took 80 s, so 1 takes 27 s.
    assert caplog.messages == [
        "Checking: 1 of 4 images, 2:00 left.",
        "Checking: 3 of 4 images, 0:26 left.",
    ]
    assert capsys.readouterr() == ("", "")


def test_unknown_total_gives_the_count_only(clock, caplog):
    lines = progress.ProgressLines("Detecting", None, "frames")
    with caplog.at_level("INFO", logger="mrcnn"):
        for done in range(1, 4):
            lines.update(done)
    assert caplog.messages == ["Detecting: 2 frames."]


def test_bar_on_a_terminal(monkeypatch, caplog):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    assert list(progress.with_progress([3, 4], "Checking")) == [3, 4]
    assert "Checking" in screen.getvalue() and caplog.messages == []


def test_notebook_without_widgets_gets_no_bar_and_no_warning(monkeypatch, recwarn, capsys):
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(force_jupyter=True))
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    assert list(progress.with_progress([3, 4], "Checking")) == [3, 4]
    assert not recwarn.list and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (59.9, "0:59"), (3661, "1:01:01")])
def test_duration(seconds, text):
    assert progress.duration(seconds) == text
