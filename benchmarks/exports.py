"""Export one network in every format and precision, and print how each file compares with detect.

    python benchmarks/exports.py WEIGHTS DATA
    python benchmarks/exports.py nuclei nuclei/val --size 256 256
    python benchmarks/exports.py shapes shapes --batch 3 --precisions float32

Each file runs in a process that can import neither this package nor Keras and, unless it is a
SavedModel, not TensorFlow. Without --batch, files accept any number of images where the format can,
and are tried on one and on three; the images keep their own sizes, and a black one is added, in
which nothing is found. int8 measures its ranges on the images of DATA, and the average precision of
each file is compared on the first 50. Prints a table for docs/export.md.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np

from mrcnn.app.cli_support import load_for_use
from mrcnn.app.data_option import SHAPES_HELD_OUT, open_data
from mrcnn.export.formats import FORMATS
from mrcnn.export.report import Report
from mrcnn.inference import runtimes

SIDE_OF_BLACK = 128
HEADINGS = (
    "format, precision",
    "found",
    "matched",
    "boxes px",
    "scores",
    "mask IoU",
    "AP lost",
    "MB",
    "ms (detect)",
    "memory MB",
)
# Runs before the runtime: these modules cannot be imported.
BLOCK = "import sys; sys.modules.update(dict.fromkeys({names!r})); "


def main() -> None:
    """Print the table of one network."""
    args = _arguments()
    model, names = load_for_use(args.weights, [*args.config, "PRECISION=float32"])
    dataset = open_data(args.data, names, SHAPES_HELD_OUT)
    images = [dataset.load_image(i) for i in dataset.image_ids[: args.images]]
    images.append(np.zeros((SIDE_OF_BLACK, SIDE_OF_BLACK, *images[0].shape[2:]), np.uint8))
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", flush=True)
    script = runtimes.SCRIPT
    for format, precision in itertools.product(args.formats, args.precisions):
        kind = FORMATS[format]
        if precision not in kind.precisions:
            continue
        blocked = ["mrcnn", "keras", *(["tensorflow"] if kind.is_portable else [])]
        runtimes.SCRIPT = BLOCK.format(names=blocked) + script
        batch = args.batch or (None if kind.has_open_batch else 1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"model{kind.suffix}")
            try:
                report = model.export(path, format, precision, args.size, batch, images, dataset)
            except ValueError as error:
                print(f"{format}, {precision}: {error}", flush=True)
                continue
        print(_row(f"{format}, {precision}", report), flush=True)


def _row(name: str, report: Report) -> str:
    found = report.agreement
    cells = [
        name,
        str(found.compared),
        f"{found.matched:.1%}",
        f"{found.boxes:.1g}",
        f"{found.scores:.1g}",
        "-" if found.masks is None else f"{found.masks:.4f}",
        "-" if report.cost is None else f"{report.cost.loss():.4f}",
        f"{report.size / 1e6:.1f}",
        f"{report.measured['ms']:.0f} ({report.detect_ms:.0f})",
        f"{report.measured['memory']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights")
    parser.add_argument("data", help="as for mrcnn evaluate; the word shapes for generated images")
    parser.add_argument("--images", type=int, default=4, help="to compare detections on")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--batch", type=int, help="a fixed number of images")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--precisions", nargs="+", default=["float32", "float16", "int8"], metavar="PRECISION"
    )
    parser.add_argument("--config", nargs="*", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
