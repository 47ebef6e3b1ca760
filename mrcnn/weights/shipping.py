"""Turn a trained checkpoint into a model of this package: float16, its settings, a card.

    python -m mrcnn.weights.shipping pack CHECKPOINT.h5 NAME.h5 [SETTING=VALUE ...]
    mrcnn evaluate DATA --weights NAME.h5 --out measured
    python -m mrcnn.weights.shipping ship NAME.h5 measured/metrics.json CARD.md

The results of the card are those of the float16 file. CARD.md says what only people know: the data,
the licence, the command of the training, the limits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..config import Config, without_functions
from ..files.atomic import atomic_write
from .saving import write_layers
from .shipped import LICENCE, PACKAGED, Results
from .weight_file import METADATA, WeightFile

LARGEST_FILE = 12_000_000  # bytes
# Of all files in the package; with the code, the wheel must have less than 25 MB.
LARGEST_FOLDER = 24_200_000
# Settings of the machine, the data or the reports of a training.
OF_RUN = (
    "GPU_COUNT",
    "STEPS_PER_EPOCH",
    "VALIDATION_STEPS",
    "WARMUP_STEPS",
    "SEED",
    "VALIDATION_AP_IMAGES",
    "EARLY_STOPPING_PATIENCE",
    "RUN_REPORT",
    "VALIDATION_PICTURES",
    "KEEP_LAST_N",
)


def pack(
    checkpoint: str | os.PathLike,
    target: str | os.PathLike,
    changed: Mapping[str, Any] | None = None,
) -> str:
    """Write the weights of a checkpoint as float16, with the settings that concern its use.

    target: NAME.h5; NAME becomes the model's name. changed: settings that differ from those of the
    training, of detections for example.

    Returns: the target's path.

    Raises:
        OSError, ValueError: no checkpoint of this package, or numbers that float16 cannot hold.
    """
    target = Path(target)
    layers: dict[str, dict[str, np.ndarray]] = {}
    with WeightFile(checkpoint) as file:
        metadata = file.metadata
        if not {"config", "class_names"} <= set(metadata):
            raise ValueError(
                "A model needs the config and the class names of its checkpoint. "
                f"Received: {checkpoint} without them. Try a file that this package wrote."
            )
        for name, weights in file.matterport_layers.items():
            layers[name] = {weight: _half(file, weight, array) for weight, array in weights}
    settings = {name: x for name, x in metadata["config"].items() if name not in OF_RUN}
    settings |= {**(changed or {}), "NAME": target.stem}
    Config.from_dict(without_functions(settings)).validate()
    description = {"config": settings, "class_names": metadata["class_names"]}
    with atomic_write(target) as part, h5py.File(part, "w") as file:
        write_layers(file, layers)
        file.attrs[METADATA] = json.dumps(description)
    return str(target)


def _half(file: WeightFile, name: str, stored: Any) -> np.ndarray:
    """The numbers of a weight, rounded to float16."""
    with np.errstate(over="ignore"):  # reported below
        rounded = np.asarray(file.read(stored, "float32")).astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ValueError(
            "Weights of a packed model must fit into float16, whose largest number is 65504. "
            f"Received: larger ones in {name} of {file.path}. Try the checkpoint of another epoch."
        )
    return rounded


def ship(
    packed: str | os.PathLike,
    metrics: str | os.PathLike,
    card: str | os.PathLike,
    folder: str | os.PathLike = PACKAGED,
) -> str:
    """Put a packed model and its card into the package.

    packed: from `pack`. metrics: `metrics.json` of `mrcnn evaluate` with it. card: Markdown; its
    first line is "# NAME: OBJECTS", another begins with "Licence: ". The results, and a
    table of the network, are added.
    folder: of the package's weights.

    Returns: the path of the weight file in the package.

    Raises:
        ValueError: a model that is too large, results of another file, or a card without a title or
            a licence.
    """
    packed, folder = Path(packed), Path(folder)
    target = folder / packed.name
    measured = json.loads(Path(metrics).read_text(encoding="utf-8"))
    text = Path(card).read_text(encoding="utf-8").rstrip()
    _check_card(text, packed.stem, card)
    _check_measured(measured, packed)
    _check_size(packed, target)
    with WeightFile(packed) as file:
        description = dict(file.metadata)
    results = _results(measured)
    results_section = _results_section(measured, results)
    description["results"] = results._asdict()
    with atomic_write(target) as part:
        shutil.copyfile(packed, part)
        with h5py.File(part, "r+") as file:
            del file.attrs[METADATA]
            file.attrs[METADATA] = json.dumps(description)
    with atomic_write(target.with_suffix(".md")) as part:
        network = _network_section(target, description)
        sections = [text, results_section, network]
        Path(part).write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return str(target)


# --- What may be shipped ------------------------------------------------------------------------


def _check_card(text: str, name: str, card: str | os.PathLike) -> None:
    first, *others = text.splitlines()
    has_licence = any(line.startswith(LICENCE) for line in others)
    if not first.startswith(f"# {name}: ") or not has_licence:
        raise ValueError(
            f"A card must begin with '# {name}: ' and what the model finds, and have a line that "
            f"begins with '{LICENCE}'. Received: {card}, which begins with {first!r}."
        )


def _check_measured(measured: dict[str, Any], packed: Path) -> None:
    is_whole = measured["partial_of"] is None and not measured["failed"]
    if Path(measured["weights"]).name != packed.name or not is_whole:
        raise ValueError(
            f"The results must be those of the packed file, on all images. Received: results of "
            f"{measured['weights']}. Try mrcnn evaluate DATA --weights {packed}."
        )


def _check_size(packed: Path, target: Path) -> None:
    """Raise a ValueError if the file, or the package with it, would be too large."""
    size = packed.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(
            f"A model in the package must have at most {LARGEST_FILE:,} bytes. Received: {packed} "
            f"of {size:,}. Try a narrower pyramid and heads (TOP_DOWN_PYRAMID_SIZE, "
            "FPN_CLASSIF_FC_LAYERS_SIZE)."
        )
    others = [file.stat().st_size for file in target.parent.iterdir() if file != target]
    total = sum(others) + size
    if total > LARGEST_FOLDER:
        raise ValueError(
            f"The files in {target.parent} must have at most {LARGEST_FOLDER:,} bytes together. "
            f"Received: {total:,}. Try a smaller model."
        )


# --- What is measured ---------------------------------------------------------------------------


def _results(measured: dict[str, Any]) -> Results:
    mask = measured["mask"]
    images = f"{measured['images']} images of {_tail(measured['data'])}"
    data = f"{images}, {measured['objects']} objects"
    mask_ap = None if mask is None else round(mask["AP"], 3)
    return Results(round(measured["box"]["AP"], 3), mask_ap, data)


def _tail(path: str) -> str:
    """The last two parts of a path: the folders above them are those of one machine."""
    return "/".join(Path(path).parts[-2:])


def _results_section(measured: dict[str, Any], results: Results) -> str:
    rows = ["| | AP | AP50 | AP75 | small | medium | large |", "|---|---|---|---|---|---|---|"]
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    for label in ("box", "mask"):
        if measured[label] is not None:
            values = [_three_digits(measured[label][name]) for name in names]
            rows.append(f"| {label} | {' | '.join(values)} |")
    score, kaggle = measured["kaggle_score"], ""
    if score is not None and len(measured["per_class"]) == 1:  # the competition had one class
        kaggle = f" Score of Kaggle's 2018 Data Science Bowl: {score:.3f}."
    return "\n".join(
        [
            "## Results",
            "",
            f"Measured with this float16 file on {results.data}: COCO's metrics of detections with "
            f"a score of at least {measured['min_confidence']:g}.{kaggle}",
            "",
            *rows,
        ]
    )


def _three_digits(value: float | None) -> str:
    """A value of the table; None is the AP of a size that no object has."""
    return "none" if value is None else f"{value:.3f}"


def _network_section(weights: Path, description: dict[str, Any]) -> str:
    with WeightFile(weights) as file:
        arrays = [stored for layer in file.layers.values() for _, stored in layer]
    numbers = sum(math.prod(stored.shape) for stored in arrays)
    config = description["config"]
    classes = ", ".join(description["class_names"][1:])
    return "\n".join(
        [
            "## Network",
            "",
            f"{numbers:,} numbers in float16, {weights.stat().st_size / 1e6:.1f} MB. "
            f"BACKBONE: {config['BACKBONE']}. Classes: {classes}. All settings are in the file.",
        ]
    )


def _setting(word: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; a value that is no JSON is a text."""
    name, _, value = word.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(words: Sequence[str] | None = None) -> None:
    """Run `pack` or `ship`."""
    parser = argparse.ArgumentParser(
        prog="python -m mrcnn.weights.shipping",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the weights of a checkpoint as float16")
    packing.add_argument("checkpoint")
    packing.add_argument("target")
    packing.add_argument("settings", metavar="SETTING=VALUE", nargs="*", type=_setting)
    shipping = commands.add_parser("ship", help="put a packed model into the package")
    shipping.add_argument("packed")
    shipping.add_argument("metrics")
    shipping.add_argument("card")
    args = parser.parse_args(words)
    if args.command == "pack":
        print(pack(args.checkpoint, args.target, dict(args.settings)))
    else:
        print(ship(args.packed, args.metrics, args.card))


if __name__ == "__main__":
    main()
