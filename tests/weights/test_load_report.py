"""The report of a load."""

from mrcnn.weights.load_report import LoadReport


def test_summary_lists_the_counts_and_then_the_names():
    missing = [f"m{i}" for i in range(8)]
    report = LoadReport("w.h5", loaded=["a", "b"], missing=missing, remapped={"cat": 1})
    assert report.summary().splitlines() == [
        "w.h5: 2 layers loaded, 8 missing in the file",
        "  missing in the file (kept as initialised): m0, m1, m2, m3, m4, m5 and 2 more",
        "  classes moved: cat -> 1",
    ]
    assert str(report) == report.summary()


def test_counts_of_zero_are_left_out():
    assert LoadReport("w.h5", loaded=["a", "b"]).summary() == "w.h5: 2 layers loaded"
    unused = LoadReport("w.h5", excluded=["b"], unused=["c", "d"]).summary()
    assert unused.startswith("w.h5: 0 layers loaded, 1 excluded, 2 unused in the file\n")
