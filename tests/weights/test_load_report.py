"""The report of a load."""

from mrcnn.weights.load_report import LoadReport


def test_summary_lists_the_counts_and_then_the_names():
    missing = [f"m{i}" for i in range(8)]
    report = LoadReport("w.h5", loaded=["a", "b"], missing=missing, remapped={"cat": 1})
    assert report.summary().splitlines() == [
        "w.h5: 2 layers loaded, 0 excluded, 0 of another shape, 8 missing in the file, "
        "0 unused in the file",
        "  missing in the file (kept as initialised): m0, m1, m2, m3, m4, m5 and 2 more",
        "  classes moved: cat -> 1",
    ]
    assert str(report) == report.summary()
