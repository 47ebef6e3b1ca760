"""The files of an evaluation: text of the record, curves and confusions in the figures."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mrcnn.evaluation import report
from mrcnn.evaluation.confusion import Confidence
from mrcnn.evaluation.scores import METRICS
from mrcnn.evaluation.summary import Evaluation

LINE = np.linspace(0, 1, 101)


def evaluation(names=("cat", "dog"), kind="mask", score=0.5678, voc=None, **options):
    """Return an evaluation: precision of the first class from 1 to 0, no objects of the last."""
    count = len(names)
    precision = np.full((2, 101, count), math.nan)
    precision[0, :, : max(count - 1, 1)] = (1 - LINE)[:, None]
    precision[1, :, : max(count - 1, 1)] = 0.25
    confusion = np.zeros((count + 1, count + 1), int)
    confusion[0, :2] = 12, 3
    metrics = dict.fromkeys(METRICS, 0.25)
    row = {"objects": 15, "box_AP": 0.25, "mask_AP": 0.25, "confidence": score, "F1": 0.8}
    values = {
        "box": metrics,
        "mask": metrics if kind == "mask" else None,
        "per_class": [{"id": i, "name": name, **row} for i, name in enumerate(names, start=1)],
        "images": 2,
        "objects": 15,
        "detections": 15,
        "kind": kind,
        "precision": precision,
        "confidence": Confidence(score, 0.8, 0.75, 0.85),
        "confusion": confusion,
        "voc": voc,
    }
    return Evaluation(**{**values, **options})


def test_a_partial_evaluation_is_marked_in_all_files(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text: titles.append(text))
    report.write(evaluation(partial_of=7), tmp_path)
    assert (
        "PARTIAL: interrupted after 2 of 7 images.\n2 images, 15 objects"
        in (tmp_path / report.RECORD).read_text()
    )
    assert titles == ["interrupted after 2 of 7 images"] * 2


# --- The record ---------------------------------------------------------------------------------


def test_the_record_has_all_metrics():
    text = report.record(evaluation(), "weights w.h5, data val")
    assert text.startswith("weights w.h5, data val\n\n2 images, 15 objects, 15 detections")
    # 0.5678 rounded down: from 0.568 on the detection of that very score would be cut off
    best = "0.567, where F1 at mask IoU 0.5 is highest: 0.800 (precision 0.750, recall 0.850)."
    assert f"Confidence to use: {best}\n" in text
    assert text.endswith("""
Precision at a recall, mask, mean over classes
recall     0.0   0.1   0.2   0.3   0.4   0.5   0.6   0.7   0.8   0.9   1.0
IoU 0.5  1.000 0.900 0.800 0.700 0.600 0.500 0.400 0.300 0.200 0.100 0.000
IoU 0.75 0.250 0.250 0.250 0.250 0.250 0.250 0.250 0.250 0.250 0.250 0.250

Confusions at mask IoU 0.5, confidence >= 0.567: rows ground truth, columns detected
                  cat     dog  missed
cat                12       3       0
dog                 0       0       0
nothing there       0       0       0
""")
    assert "VOC" not in text


def test_the_record_of_voc_data_has_vocs_ap_of_each_class():
    measured = evaluation(voc={"box": [0.5, 0.625]})
    for row, aps in zip(measured.per_class, ([0.5, 0.625], [math.nan, math.nan]), strict=True):
        row["VOC"] = {"box": aps}
    text = report.record(measured)
    assert "VOC's AP at box IoU 0.5, objects marked difficult left out: 0.500 by" in text
    assert (
        """
class   box AP 2007   box AP 2010
cat           0.500         0.625
dog             nan           nan
"""
        in text
    )


def test_the_record_of_many_classes_lists_the_most_frequent_confusions():
    names = [f"class {i}" for i in range(30)]
    confusion = np.zeros((31, 31), int)
    confusion[0, 0], confusion[2, 5], confusion[3, 30], confusion[30, 4] = 99, 7, 9, 1
    text = report.record(evaluation(names, confusion=confusion))
    listed = (
        "     9  class 3 -> missed\n     7  class 2 -> class 5\n     1  nothing there -> class 4\n"
    )
    assert text.endswith(f"the most frequent, ground truth -> detected\n{listed}")


def test_mean_curves_ignore_classes_without_objects():
    np.testing.assert_allclose(report.mean_curves(evaluation()), [1 - LINE, np.full(101, 0.25)])
    undefined = evaluation(precision=np.full((2, 101, 2), math.nan))
    assert np.isnan(report.mean_curves(undefined)).all()


def test_an_evaluation_without_objects_is_written(tmp_path):
    unknown = Confidence(*[math.nan] * 4)
    empty = evaluation(
        precision=np.full((2, 101, 2), math.nan),
        confidence=unknown,
        confusion=np.zeros((3, 3), int),
        score=math.nan,
    )
    text = report.write(empty, tmp_path)[0].read_text()
    assert "Confidence to use" not in text and "confidence >= 0.050" in text
    labels = [
        text.get_text() for text in report.draw_curves(empty).axes[0].get_legend().get_texts()
    ]
    assert labels == ["cat: no objects", "dog: no objects", "mean over classes: no objects"]


# --- The images ---------------------------------------------------------------------------------


def test_write_creates_a_record_and_two_images(tmp_path):
    paths = report.write(evaluation(), tmp_path, "heading")
    assert [path.name for path in paths] == [
        "record_mAP.txt",
        "precision_recall.png",
        "confusion_matrix.png",
    ]
    assert paths[0].read_text() == report.record(evaluation(), "heading")
    for path in paths[1:]:
        image = np.asarray(Image.open(path).convert("RGB"))
        assert min(image.shape[:2]) >= 500 and image.std() > 10  # not blank


def test_curves_have_the_names_and_values_of_their_classes():
    figure = report.draw_curves(evaluation())
    assert [axes.get_title() for axes in figure.axes] == ["mask IoU 0.5", "mask IoU 0.75"]
    cat, dog, mean = figure.axes[0].get_lines()
    np.testing.assert_allclose(cat.get_ydata(), 1 - LINE)
    np.testing.assert_allclose(mean.get_ydata(), 1 - LINE)
    assert np.isnan(dog.get_ydata()).all()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["cat: AP 0.500", "dog: no objects", "mean over classes: AP 0.500"]


def test_one_class_has_one_curve_and_many_classes_have_no_names():
    one = report.draw_curves(evaluation(["nucleus"], kind="box")).axes[0]
    assert [line.get_label() for line in one.get_lines()] == ["nucleus: AP 0.500"]
    assert one.get_title() == "box IoU 0.5"
    many = report.draw_curves(evaluation([f"class {i}" for i in range(30)])).axes[0]
    assert len(many.get_lines()) == 31 and len(many.get_legend().get_texts()) == 1


def test_confusions_have_counts_and_colors():
    confusion = np.array([[6, 1, 1], [0, 0, 0], [2, 0, 0]])
    axes = report.draw_confusion(evaluation(confusion=confusion)).axes[0]
    # The last cell, neither an object nor a detection, is empty.
    assert [text.get_text() for text in axes.texts] == list("61100020")
    # rows by their objects: 6/8, 1/8, 1/8; the last by the detections of its columns: 2/8, 0/1
    np.testing.assert_allclose(
        axes.images[0].get_array(), [[0.75, 0.125, 0.125], [0, 0, 0], [0.25, 0, 0]]
    )
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "missed"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "nothing there"]


@pytest.mark.parametrize(("classes", "numbers"), [(1, 3), (25, 26 * 26 - 1), (26, 0)])
def test_counts_are_written_unless_the_matrix_is_large(classes, numbers):
    figure = report.draw_confusion(evaluation([f"class {i}" for i in range(classes)]))
    assert len(figure.axes[0].texts) == numbers


# --- Untrusted names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [r"$\frac{$", "$x_$", "a$b", "x" * 10_000, "\x1b[31mcat\r", "cat\ud800", "a\0b"]
)
def test_class_names_with_odd_characters_are_written(name, tmp_path):
    paths = report.write(
        evaluation((name, "dog"), voc={"mask": [0.5, 0.5]}, **voc_rows(name)), tmp_path, name
    )
    text = paths[0].read_text(encoding="utf-8")
    assert not any(character in text for character in "\x1b\r\0\ud800")
    assert max(map(len, text.splitlines()[2:])) < 300
    assert all(path.stat().st_size for path in paths)


def voc_rows(name):
    row = {"objects": 1, "box_AP": 0.25, "mask_AP": 0.25, "VOC": {"mask": [0.5, 0.5]}}
    return {"per_class": [{"id": 1, "name": name, **row}, {"id": 2, "name": "dog", **row}]}


def test_a_formula_in_a_class_name_is_drawn_as_text():
    figure = report.draw_confusion(evaluation((r"$\alpha$", "dog")))
    label = figure.axes[0].get_xticklabels()[0]
    assert label.get_text() == r"\$\alpha\$"  # matplotlib draws \$ as $
    figure.canvas.draw()


def test_a_failed_write_keeps_the_previous_files(tmp_path, monkeypatch):
    paths = report.write(evaluation(), tmp_path)
    before = [path.read_bytes() for path in paths]
    monkeypatch.setattr(
        Figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="the file that was there before is unchanged"):
        report.write(evaluation(), tmp_path)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
