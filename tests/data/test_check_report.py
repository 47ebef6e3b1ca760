"""The printed report of a check."""

from checked import GOOD, GREY, ONE, Hand, Small, kinds, rectangles

from mrcnn.data.check import check
from mrcnn.data.check_report import Finding, Report


def test_errors_come_before_warnings():
    tiny = (GREY, rectangles((8, 8, 10, 10)), [1])
    report = check(Hand(tiny, GOOD, (GREY, ONE, [0])), Small())
    assert kinds(report) == ["class id", "tiny"]
    assert [f.kind for f in report.errors] == ["class id"]
    assert [f.kind for f in report.warnings] == ["tiny"]
    assert str(report).endswith("1 error, 1 warning")


def test_printed_report_shows_three_examples_and_counts_the_others():
    findings = [Finding("tiny", "small", i, f"image {i}", (0, 1)) for i in range(7)]
    text = str(Report(findings, images=7))
    title = "warning: Objects under 4 px after resizing: 14 in 7 images"
    assert f"{title}\n  image 0: small\n  image 1: small\n" in text
    assert "image 3" not in text and "\n  and 4 more\n" in text


def test_many_classes_are_printed_in_columns():
    text = str(Report(counts={f"class {i:02}": i for i in range(80)}))
    lines = [line for line in text.splitlines() if "class " in line and ":" not in line]
    # "class 00  0" is 11 characters, 14 with the gap: 96 // 14 = 6 columns, 80 / 6 -> 14 rows
    assert len(lines) == 14
    assert lines[0].split("   ")[0].strip() == "class 00  0"
    assert max(map(len, lines)) <= 100


def test_verdict_counts_printed_headings():
    twins = (GREY, rectangles((8, 8, 24, 24), (8, 8, 24, 24)), [1, 1])
    report = check(Hand(GOOD, twins, twins, classes=("cat", "dog")), Small())
    assert str(report).endswith("0 errors, 1 warning (2 findings)")
    assert str(report).count("warning: ") == 1
