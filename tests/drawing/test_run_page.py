"""The page of a training run, with names of strangers, and with as little as an empty run has."""

import re

import numpy as np

from mrcnn.drawing.run_page import RunFacts, run_page
from mrcnn.evaluation.scores import METRICS
from mrcnn.files.write_image import save_image

EVIL = "<img src=x onerror=alert(1)>"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;"


def facts(**values):
    """Return the facts of a run of no epoch, and the changed ones."""
    given = {
        "name": "fruit20260101T1200",
        "network": "Mask R-CNN",
        "state": "0 of 3 epochs",
        "rows": [],
        "best": None,
        "data": [("training", 4, None)],
        "settings": {},
        "weights": "best.h5",
        "epoch": 0,
        "has_masks": True,
        "versions": "mrcnn",
    }
    return RunFacts(**{**given, **values})


def best(**values):
    """Return what `best_metrics.json` holds."""
    row = {"name": "apple", "objects": 7, "box_AP": 0.5, "mask_AP": 0.4, "confidence": 0.6789}
    given = {
        "epoch": 2,
        "images": 16,
        "validation_images": 40,
        "objects": 7,
        "box": dict.fromkeys(METRICS, 0.512),
        "mask": dict.fromkeys(METRICS, 0.4567),
        "kaggle_score": 0.321,
        "per_class": [{**row, "F1": 0.7}],
        "confidence": {"score": 0.6789, "f1": 0.7},
    }
    return {**given, **values}


def test_run_without_epochs_has_data_and_usage(tmp_path):
    page = run_page(tmp_path, facts())
    assert re.findall("<h2>(.+?)</h2>", page) == [
        "Data",
        "Settings that differ from the defaults",
        "Use the weights",
    ]
    assert "<img" not in page


def test_best_epoch_and_its_sample(tmp_path):
    rows = [{"epoch": str(i), "loss": "1.5", "seconds": "100.0"} for i in (1, 2, 3)]
    page = run_page(tmp_path, facts(rows=rows, best=best(), epoch=2))
    figures = re.findall(r"<b>(.+?)</b><span>(.+?)</span>", page)
    assert figures == [
        ("0.457", "mask AP"),
        ("0.457", "mask AP50"),
        ("0.512", "box AP"),
        ("0.512", "box AP50"),
        ("0.321", "Kaggle&#x27;s score"),
        ("2", "best epoch"),
        ("5 min", "training time"),  # three times 100 s
    ]
    assert "measured on 16 of the 40 validation images with 7 objects" in page
    assert "mrcnn detect IMAGE --weights best.h5 --out found --min-confidence 0.67" in page
    assert "All 3 epochs as a table" in page


def test_undefined_scores_and_box_only_networks(tmp_path):
    unknown = best(mask=None, kaggle_score=None, box=dict.fromkeys(METRICS))
    unknown["per_class"][0].update(box_AP=None, mask_AP=None, confidence=None, F1=None)
    unknown["confidence"] = {"score": None, "f1": None}
    page = run_page(tmp_path, facts(best=unknown, has_masks=False))
    assert "mask AP50" not in page and "Kaggle" not in page and "result.masks" not in page
    assert "<b>-</b><span>box AP</span>" in page and "--min-confidence" not in page


def test_names_of_strangers_are_escaped(tmp_path):
    save_image(np.zeros((2, 2, 3), np.uint8), tmp_path / "val_1.png")
    entry = {"file": "val_1.png", "name": EVIL, "score": 0.25}
    metrics = best(val_images=[entry], worst_images=[entry])
    metrics["per_class"][0]["name"] = EVIL
    page = run_page(
        tmp_path,
        facts(
            name=EVIL,
            best=metrics,
            rows=[{"epoch": "1", "loss": EVIL, EVIL: EVIL}],
            data=[("training", 4, {EVIL: 7})],
            class_names=["BG", EVIL],
            settings={"NAME": EVIL},
            weights=EVIL,
        ),
    )
    assert EVIL not in page and "<img src=x" not in page
    assert page.count(f"{ESCAPED}: score 0.250") == 4  # caption and text of two figures


def test_only_the_most_frequent_of_many_classes_are_listed(tmp_path):
    (row,) = best()["per_class"]
    many = [{**row, "name": f"class {i}", "objects": i} for i in range(100)]
    page = run_page(tmp_path, facts(best=best(per_class=many)))
    assert "class 99<" in page and "class 39<" not in page
    assert "40 rarer classes are not listed." in page
