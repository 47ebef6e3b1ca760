"""`report.html`, the page of a training run, from the files in its folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import html_page as html

KAGGLE = (
    "Kaggle's score is that of the 2018 Data Science Bowl, of masks: TP / (TP + FP + FN), the mean "
    "over these IoUs and over images, at the confidence of the highest F1."
)
LONGEST_LISTS = 60  # classes in the table of classes


@dataclass(kw_only=True)
class RunFacts:
    """What the page says of a run, besides what its images show.

    name: of the run. network: in words. state: how far it has come, in words.
    rows: of `results.csv`. best: `best_metrics.json`, None before the first AP.
    data: (role, number of images, class name -> objects or None if not counted).
    settings: those that differ from the defaults.
    weights: file name of the weights to use. epoch: of these weights.
    has_masks: whether the network predicts masks. versions: of the software, in words.
    """

    name: str
    network: str
    state: str
    rows: Sequence[Mapping[str, str]]
    best: Mapping[str, Any] | None
    data: Sequence[tuple[str, int, Mapping[str, int] | None]]
    settings: Mapping[str, Any]
    weights: str
    epoch: int
    has_masks: bool
    versions: str
    class_names: Sequence[str] = field(default_factory=list)


def run_page(folder: Path, facts: RunFacts) -> str:
    """Return the page as HTML; the images are those of the folder."""
    parts = [
        f"<h1>{html.text(facts.name)}</h1>",
        html.paragraph(f"{facts.network}. {facts.state}.", "subtitle"),
        html.cards(_key_figures(facts)),
        html.section("Training", *_training(folder, facts)),
        html.section("Accuracy on validation data", *_accuracy(facts)),
        html.section("Confusions", html.figure(folder / "confusion.png", photographic=False)),
        html.section("Worst validation images", *_images(folder, facts, "worst")),
        html.section("Validation images", *_images(folder, facts, "val")),
        html.section("Training images as the network sees them", *_batches(folder)),
        html.section("Data", *_data(facts)),
        html.section("Settings that differ from the defaults", _settings(facts)),
        html.section("Use the weights", *_usage(facts)),
        html.paragraph(facts.versions, "note"),
    ]
    return html.page(f"{facts.name}: training report", [part for part in parts if part])


# --- Parts of the page --------------------------------------------------------------------------


def _key_figures(facts: RunFacts) -> Iterator[tuple[str, str]]:
    best = facts.best
    if best is not None:
        kinds = ["box"] if best["mask"] is None else ["mask", "box"]
        for kind in kinds:
            yield f"{kind} AP", _score(best[kind]["AP"])
            yield f"{kind} AP50", _score(best[kind]["AP50"])
        if best["kaggle_score"] is not None:
            yield "Kaggle's score", _score(best["kaggle_score"])
        yield "best epoch", str(best["epoch"])
    elif facts.rows:
        yield "loss of the last epoch", facts.rows[-1].get("loss", "")[:6]
    yield "training time", _duration(facts.rows)


def _training(folder: Path, facts: RunFacts) -> Iterator[str]:
    yield html.figure(folder / "results.png", photographic=False)
    if facts.rows:
        heads = list(facts.rows[-1])
        rows = [[row.get(name, "") for name in heads] for row in facts.rows]
        summary = f"All {len(rows)} epochs as a table (results.csv)"
        yield html.details(summary, html.table(heads, rows))


def _accuracy(facts: RunFacts) -> Iterator[str]:
    best = facts.best
    if best is None:
        return
    images = f"{best['images']} of the {best['validation_images']} validation images"
    if best["images"] == best["validation_images"]:
        images = f"all {best['images']} validation images"
    yield html.paragraph(
        f"Epoch {best['epoch']}, measured on {images} with {best['objects']} objects, by COCO's "
        "rules: AP is the mean over IoU 0.50 to 0.95, APs, APm and APl that of small, medium and "
        "large objects; AR is recall." + ("" if best["kaggle_score"] is None else f" {KAGGLE}"),
        "note",
    )
    heads = ["", *best["box"]]
    rows = [["box", *map(_score, best["box"].values())]]
    if best["mask"] is not None:
        rows.append(["mask", *map(_score, best["mask"].values())])
    yield html.table(heads, rows)
    if best.get("keypoints"):
        scores = best["keypoints"]
        yield html.table(["", *scores], [["keypoints", *map(_score, scores.values())]])
    yield _classes(best["per_class"])


def _classes(per_class: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of classes, the most frequent first."""
    heads = ["class", "objects", "box AP", "mask AP", "confidence to use", "F1"]
    names = ("box_AP", "mask_AP", "confidence", "F1")
    rows = []
    for row in sorted(per_class, key=lambda row: -row["objects"])[:LONGEST_LISTS]:
        rows.append([row["name"], row["objects"], *(_score(row[name]) for name in names)])
    more = len(per_class) - len(rows)
    note = html.paragraph(f"{more} rarer classes are not listed.", "note") if more else ""
    return html.table(heads, rows) + note


def _images(folder: Path, facts: RunFacts, kind: str) -> Iterator[str]:
    """Return the figures of the images that `best_metrics.json` lists under a kind."""
    entries = [] if facts.best is None else facts.best.get(f"{kind}_images", [])
    figures = []
    for entry in entries:
        caption = f"{entry['name']}: score {_score(entry['score'])}"
        figures.append(html.figure(folder / entry["file"], caption))
    if figures and kind == "worst":
        yield html.paragraph(
            "The lowest scores: TP / (TP + FP + FN), the mean over IoU 0.50 to 0.95. Look for "
            "wrong or missing annotations as well.",
            "note",
        )
    yield html.grid(figures)


def _batches(folder: Path) -> Iterator[str]:
    figures = [html.figure(path) for path in sorted(folder.glob("batch_*.png"))]
    if figures:
        yield html.paragraph(
            "Resized and augmented, with the objects to learn; thin lines are the anchors that "
            "match them. An object without one is hard to learn.",
            "note",
        )
    yield from figures


def _data(facts: RunFacts) -> Iterator[str]:
    rows, counted = [], {}
    for role, images, objects in facts.data:
        total = "" if objects is None else sum(objects.values())
        rows.append([role, images, total])
        if objects is not None:
            counted[role] = objects
    yield html.table(["", "images", "objects"], rows)
    names = facts.class_names[1 : LONGEST_LISTS + 1]
    if names and counted:
        classes = [
            [name, *(objects.get(name, 0) for objects in counted.values())] for name in names
        ]
        yield html.table(["class", *counted], classes)
    elif names:
        yield html.paragraph(f"Classes: {', '.join(names)}")


def _settings(facts: RunFacts) -> str:
    rows = [[name, value] for name, value in facts.settings.items()]
    return html.table(["setting", "value"], rows, texts=True)


def _usage(facts: RunFacts) -> Iterator[str]:
    confidence = None if facts.best is None else facts.best["confidence"]["score"]
    option = "" if confidence is None else f" --min-confidence {_rounded_down(confidence)}"
    yield html.paragraph(
        f"{facts.weights} holds the weights of epoch {facts.epoch}, the settings of their network "
        "and the class names; no other file is needed."
    )
    weights = shlex.quote(facts.weights)
    yield html.code(f"mrcnn detect IMAGE --weights {weights} --out found{option}")
    masks = ", result.masks" if facts.has_masks else ""
    yield html.code(
        "import mrcnn\n\n"
        f"model = mrcnn.load({facts.weights!r})\n"
        "result = model.detect('image.png')\n"
        "result.save('found.png')\n"
        f"result.boxes, result.labels, result.scores{masks}"
    )
    if confidence is not None:
        f1 = facts.best["confidence"]["f1"]  # type: ignore[index]
        yield html.paragraph(
            f"On the validation data F1 at IoU 0.5 is highest, {_score(f1)}, for detections of "
            f"confidence >= {_rounded_down(confidence)}.",
            "note",
        )


# --- Values as texts ----------------------------------------------------------------------------


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rounded_down(score: float) -> str:
    """Return a score with two digits, never above it: that very detection is still shown."""
    return f"{int(score * 100) / 100:.2f}"


def _duration(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the sum of the column of seconds, as `12 s`, `3 min` or `2 h 05 min`."""
    seconds = sum(float(row["seconds"]) for row in rows if _is_number(row.get("seconds")))
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _is_number(text: str | None) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text or "") is not None
