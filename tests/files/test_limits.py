"""Limits on what files may claim, and names made fit to print."""

import pytest

from mrcnn.files import limits


def test_clean_name_removes_control_characters_and_surrogates():
    assert limits.clean_name("\x1b]0;owned\x07\x1b[31mcat\r\n") == "]0;owned [31mcat"
    assert limits.clean_name("cat\ud800") == "cat\ufffd"
    assert limits.clean_name("\u202ecat\u2028dog") == "cat dog"
    assert limits.clean_name("  Großer Brachvogel, 鳥 ") == "Großer Brachvogel, 鳥"


def test_printable_shortens_in_the_middle():
    assert limits.printable("a" * 1000, 11) == "aaaa...aaaa"
    assert limits.printable("short", 11) == "short"


def test_csv_cell_is_no_formula():
    assert limits.csv_cell("=cmd|' /C calc'!A0") == "'=cmd|' /C calc'!A0"
    assert limits.csv_cell("cat") == "cat"


def test_claimed_sizes_have_limits():
    limits.check_size(10_000, 10_000, "x.json")
    with pytest.raises(ValueError, match=r"100,000 x 100,000 .* in x\.json"):
        limits.check_size(100_000, 100_000, "x.json")
    limits.check_masks(100, 1024, 1024, "a.png")
    with pytest.raises(ValueError, match=r"5,000 objects"):
        limits.check_masks(5000, 2000, 2000, "a.png")


def test_printable_lines_keeps_the_layout_of_a_text():
    assert limits.printable_lines("a  b\n  \x1b[31mred\r\ud800") == "a  b\n   [31mred \ufffd"
    assert limits.printable_lines("plain  text") == "plain  text"


def test_figure_text_is_no_formula():
    assert limits.figure_text(r"$\frac{$") == r"\$\frac{\$"
    assert len(limits.figure_text("x" * 10_000)) <= limits.LONGEST_NAME


def test_a_cell_keeps_the_spaces_of_a_path():
    assert limits.csv_cell("my  photos/a b.png") == "my  photos/a b.png"
    assert limits.csv_cell("\t=1") == "' =1"
