"""How time and memory grow with the work: `python benchmarks/growth.py --plot docs/growth.png`.

Each point is measured in a process of its own, with time in the units of `run.py`. Except for the
quantity that grows, detection is ResNet50's on an image of 256 x 256 with 100 objects, 81 classes
and 1,000 proposals.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import run

COUNT = 100  # detected objects


def _detect(side: int = 256, count: int = COUNT, batch: int = 1, **values) -> run.Times:
    model = run.detector("resnet50", side, count, **values)
    model.optimize_for_inference()
    images = [run.random_image(side)] * batch
    run._check_count(model, images[0])
    return run.timed(lambda: model.detect(images, batch_size=batch), rounds=5, enough=2)


def _examples(instances: int) -> run.Times:
    config = run._config(512, MAX_GT_INSTANCES=200)
    batches = run._batches(config, instances)
    return run.timed(lambda: batches[0], rounds=5, enough=2)


@dataclasses.dataclass
class Growth:
    """One curve: the quantity that grows, its values, and the work at one value.

    power: exponent of linear growth: 2 for the side of an image, because its pixels count.
    """

    title: str
    values: tuple[int, ...]
    work: Callable[[int], run.Times]
    power: int = 1


CURVES = {
    "side": Growth(
        "detect: side of the image, pixels", (256, 512, 1024, 2048), lambda n: _detect(side=n), 2
    ),
    "instances": Growth("detect: objects", (1, 10, 50, 100, 200), lambda n: _detect(count=n)),
    "classes": Growth("detect: classes", (2, 10, 81, 300, 1000), lambda n: _detect(NUM_CLASSES=n)),
    "rois": Growth(
        "detect: proposals", (100, 300, 1000, 2000), lambda n: _detect(POST_NMS_ROIS_INFERENCE=n)
    ),
    "batch": Growth("detect: images at a time", (1, 2, 4, 8), lambda n: _detect(batch=n)),
    "examples": Growth("a training image: objects", (1, 10, 50, 100, 200), _examples),
}


def measure(curve: str, value: int) -> dict:
    """One point: `time` in units, `peak` memory in GB, `steady` runs."""
    times = CURVES[curve].work(value)
    return {
        "value": value,
        "time": times.in_units(),
        "peak": run.peak_gb(),
        "steady": len(times.steady()),
    }


def measured_apart(curve: str, value: int) -> dict:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--child", curve, str(value)]
    done = subprocess.run(command, env=run.environment(), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.splitlines() or ["no message"])[-1]
        raise SystemExit(f"{curve} {value} must be measured. Received: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def exponent(points: list[dict], what: str) -> float:
    """Exponent of the power law through the last two points: 1 is linear, 0 is constant."""
    first, last = points[-2:]
    return math.log(last[what] / first[what]) / math.log(last["value"] / first["value"])


def plot(points: dict[str, list[dict]], file: Path) -> None:
    """Plot time above and memory below; the dashed line is linear growth up to the last point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(points), 7), layout="constrained")
    axes = figure.subplots(2, len(points), squeeze=False)
    for column, (name, rows) in zip(axes.T, points.items(), strict=True):
        values = [row["value"] for row in rows]
        for axis, what, label in zip(
            column, ("time", "peak"), ("time, units", "peak memory, GB"), strict=True
        ):
            axis.plot(values, [row[what] for row in rows], "o-")
            linear = [
                rows[-1][what] * (value / values[-1]) ** CURVES[name].power for value in values
            ]
            axis.plot(values, linear, "--", color="gray", linewidth=1)
            axis.set(xscale="log", yscale="log", xlabel=CURVES[name].title, ylabel=label)
            axis.set_xticks(values, [f"{value:,}" for value in values], minor=False)
            axis.minorticks_off()
            low, high = min(row[what] for row in rows), max(row[what] for row in rows)
            ticks = (
                [low, math.sqrt(low * high), high] if high > 1.1 * low else [high]
            )  # otherwise they would overlap
            ticks = [round(tick, 3) for tick in ticks]
            axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ylim(low / 1.5, high * 1.5)
    figure.savefig(file, dpi=80)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how time and memory grow with the work.")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the points there too")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw them there")
    parser.add_argument(
        "--only", metavar="CURVE", action="append", choices=CURVES, help=f"of {', '.join(CURVES)}"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child[0], int(args.child[1]))))
        return 0
    print(
        f"{run.cpu_name()}\n{'curve':12}{'value':>8}{'time, u':>10}{'peak, GB':>10}  steady runs",
        flush=True,
    )
    points = {}
    for name in args.only or CURVES:
        rows = points[name] = []
        for value in CURVES[name].values:
            row = measured_apart(name, value)
            rows.append(row)
            print(
                f"{name:12}{value:8,}{row['time']:10.4g}{row['peak']:10.2f}  {row['steady']}",
                flush=True,
            )
        powers = f"{exponent(rows, 'time'):.2f} in time, {exponent(rows, 'peak'):.2f} in memory"
        linear = CURVES[name].power
        print(f"{name:12}  grows at the end as its power {powers}; linear is {linear}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"cpu": run.cpu_name(), "curves": points}, indent=1) + "\n")
    if args.plot:
        plot(points, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
