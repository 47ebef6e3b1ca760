"""Text from files is made safe to print, to draw and to write into tables."""

from mrcnn.files import safe_text


def test_clean_name_removes_control_characters_and_surrogates():
    assert safe_text.clean_name("\x1b]0;owned\x07\x1b[31mcat\r\n") == "]0;owned [31mcat"
    assert safe_text.clean_name("cat\ud800") == "cat\ufffd"
    assert safe_text.clean_name("\u202ecat\u2028dog") == "cat dog"
    assert safe_text.clean_name("  Großer Brachvogel, 鳥 ") == "Großer Brachvogel, 鳥"


def test_printable_cuts_out_the_middle_of_a_long_text():
    assert safe_text.printable("a" * 1000, 11) == "aaaa...aaaa"
    assert safe_text.printable("short", 11) == "short"


def test_csv_cell_does_not_start_a_formula():
    assert safe_text.csv_cell("=cmd|' /C calc'!A0") == "'=cmd|' /C calc'!A0"
    assert safe_text.csv_cell("cat") == "cat"


def test_printable_lines_keeps_spaces_and_line_feeds():
    assert safe_text.printable_lines("a  b\n  \x1b[31mred\r\ud800") == "a  b\n   [31mred \ufffd"
    assert safe_text.printable_lines("plain  text") == "plain  text"


def test_figure_text_does_not_start_a_formula():
    assert safe_text.figure_text(r"$\frac{$") == r"\$\frac{\$"
    assert len(safe_text.figure_text("x" * 10_000)) <= safe_text.LONGEST_NAME


def test_csv_cell_keeps_the_spaces_of_a_path():
    assert safe_text.csv_cell("my  files/a b.png") == "my  files/a b.png"
    assert safe_text.csv_cell("\t=1") == "' =1"
