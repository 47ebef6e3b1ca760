"""`mrcnn detect-many` with killed processes: `python benchmarks/many.py WEIGHTS [--ray]`.

Draws images of shapes, detects them in a plain loop, then by two workers of which one is killed
(SIGKILL) after a quarter of the images, and the command itself after half of them; the same command
with --resume finishes the job. Prints whether every image has one row that is equal to the loop's,
the memory of the workers, and the images per second.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BAD = 7  # an image in a hundred is cut off, those of number 7, 107, ...
PATIENCE = 3600  # seconds without a new shard


class Sample(NamedTuple):
    """Rows that are written, and the memory in MB of each process at that time."""

    seconds: float
    rows: int
    memory: dict[int, float]


class Killed(NamedTuple):
    """The samples of the job's runs, and how often something was killed."""

    samples: list[Sample]
    kills: list[str]


def draw_images(folder: Path, count: int, side: int) -> list[str]:
    """Write PNG files of made shapes, all different, and return their names."""
    from mrcnn.data.shapes import ShapesDataset

    dataset = ShapesDataset(count, (side, side), seed=2**41)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for image_id in range(count):
        path = folder / f"{image_id:05d}.png"
        names.append(str(path))
        if not path.exists():
            Image.fromarray(dataset.load_image(image_id)).save(path)
            if image_id % 100 == BAD:
                path.write_bytes(path.read_bytes()[:99])
    return names


def plain_loop(
    weights: str, config: list[str], names: list[str]
) -> tuple[dict[str, dict | None], float]:
    """Detect images one by one, as `mrcnn detect` does.

    Returns: name -> width, height and detections, None for an image that cannot be read; and the
        images per second after the first ten.
    """
    from mrcnn.app.cli_support import load_for_use
    from mrcnn.data.image import read_image
    from mrcnn.formats.detections_json import detection_entries

    model, class_names = load_for_use(weights, config)
    found: dict[str, dict | None] = {}
    start = time.perf_counter()
    for i, name in enumerate(names):
        if i == 10:
            start = time.perf_counter()
        try:
            image = read_image(Path(name), channels=model.config.IMAGE_CHANNEL_COUNT)
        except ValueError:
            found[name] = None
            continue
        height, width = image.shape[:2]
        detections = detection_entries(model.detect([image])[0], class_names)
        found[name] = {"width": width, "height": height, "detections": detections}
    return found, (len(names) - 10) / (time.perf_counter() - start)


# --- The job ------------------------------------------------------------------------------------


def start_job(args, out: Path) -> subprocess.Popen:
    words = ["detect-many", str(args.out / "images"), "--weights", args.weights, "--out", str(out)]
    words += ["--workers", str(args.workers), "--block", str(args.block), "--resume"]
    words += ["--ray"] if args.ray else []
    words += ["--config", *args.config] if args.config else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "mrcnn", *words], env=environment)


def workers_of(driver: int, on_ray: bool) -> list[int]:
    """The ids of the processes that hold a model: children of the command, or actors of Ray."""
    if on_ray:
        return [number for number, _, text in processes() if text.startswith("ray::Map")]
    return [
        number for number, parent, text in processes() if parent == driver and "spawn_main" in text
    ]


def processes() -> Iterator[tuple[int, int, str]]:
    """Yield id, id of the parent and command line of each process of this user."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        yield int(folder.name), int(fields[1]), text.strip()


def memory(process_id: int) -> float:
    """The resident memory of a process in MB; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def written_rows(out: Path, block: int) -> int:
    return block * len(list((out / "shards").glob("*.jsonl")))


def watch(
    driver: subprocess.Popen, args, out: Path, samples: list[Sample], until: Callable[[int], bool]
) -> None:
    """Sample memory until `until(rows)` or the end of the command."""
    rows, changed = -1, time.monotonic()
    while driver.poll() is None:
        now = written_rows(out, args.block)
        if now != rows:
            rows, changed = now, time.monotonic()
            numbers = [driver.pid, *workers_of(driver.pid, args.ray)]
            samples.append(Sample(changed, rows, {number: memory(number) for number in numbers}))
        if until(rows):
            return
        assert time.monotonic() - changed < PATIENCE, "the job stands still"
        time.sleep(0.05)


def run_with_kills(args, out: Path) -> Killed:
    """Run the job, kill a worker, kill the command, and run the job again to its end."""
    samples: list[Sample] = []
    kills = []
    driver = start_job(args, out)
    watch(driver, args, out, samples, lambda rows: rows >= args.images // 4)
    victim = workers_of(driver.pid, args.ray)[0]
    os.kill(victim, signal.SIGKILL)
    kills.append(f"a worker, process {victim}, at {written_rows(out, args.block)} rows")
    watch(driver, args, out, samples, lambda rows: rows >= args.images // 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kills.append(f"the command, process {driver.pid}, at {written_rows(out, args.block)} rows")
    driver = start_job(args, out)
    watch(driver, args, out, samples, lambda rows: False)
    assert driver.wait() == 0, driver.returncode
    return Killed(samples, kills)


def compare(out: Path, expected: dict[str, dict | None]) -> str:
    """Compare the rows of a job with those of the loop, and describe the result."""
    from mrcnn.many.shards import read_rows

    names, other = [], []
    score, boxes_differ, masks_differ = 0.0, 0, 0
    for row in read_rows(out):
        names.append(row.pop("file_name"))
        wanted = expected[names[-1]]
        if wanted == json.loads(json.dumps(row)) or (wanted is None and set(row) == {"error"}):
            continue
        other.append(names[-1])
        if wanted is None or len(wanted["detections"]) != len(row.get("detections", [])):
            continue
        for one, two in zip(row["detections"], wanted["detections"], strict=True):
            score = max(score, abs(one["score"] - two["score"]))
            boxes_differ += one["box"] != two["box"]
            masks_differ += one.get("mask") != two.get("mask")
    text = f"{len(names)} rows, {len(set(names))} different names, {len(expected)} images\n"
    text += f"in the order of the images: {names == list(expected)}\n"
    text += f"rows that are not exactly equal to the loop's: {len(other)}"
    if other:
        text += f" ({', '.join(other[:3])}); scores by {score:.1e} at most, "
        text += f"{boxes_differ} boxes, {masks_differ} masks"
    return text


def rate_of(samples: list[Sample]) -> float:
    """Images per second between the first shard and the last one of an undisturbed run."""
    first = next(sample for sample in samples if sample.rows > 0)
    last = samples[-1]
    return (last.rows - first.rows) / max(last.seconds - first.seconds, 1e-9)


def memory_lines(samples: list[Sample]) -> list[str]:
    """For each process that lived for some time its memory, early and late."""
    lines = []
    for process_id in {number: None for sample in samples for number in sample.memory}:
        values = [sample.memory[process_id] for sample in samples if process_id in sample.memory]
        values = [value for value in values if value > 0]
        if len(values) >= 6:
            third = len(values) // 3
            early, late = np.median(values[third : 2 * third]), np.median(values[-third:])
            growth = 100 * (late / early - 1)
            lines.append(f"process {process_id}: {early:.0f} MB, {late:.0f} MB ({growth:+.1f} %)")
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill the workers of mrcnn detect-many.")
    parser.add_argument("weights", help="a weight file with a config, as of mrcnn demo")
    parser.add_argument("--config", nargs="+", default=[], help="settings, as for the command")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=128, help="of an image, pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block", type=int, default=25)
    parser.add_argument("--ray", action="store_true", help="actors of Ray instead of processes")
    parser.add_argument("--out", type=Path, default=Path("many_benchmark"))
    parser.add_argument("--steady", action="store_true", help="also a run without any kill")
    args = parser.parse_args()
    args.weights = os.path.abspath(args.weights)
    return args


def main() -> None:
    args = parse()
    kind = "ray" if args.ray else "processes"
    names = draw_images(args.out / "images", args.images, args.side)
    expected, loop_rate = plain_loop(args.weights, args.config, names)
    print(f"plain loop: {loop_rate:.1f} images/s", flush=True)
    killed = run_with_kills(args, args.out / f"killed_{kind}")
    for line in killed.kills:
        print(f"killed {line}")
    print(compare(args.out / f"killed_{kind}", expected), flush=True)
    print("\n".join(memory_lines(killed.samples)), flush=True)
    if args.steady:
        samples: list[Sample] = []
        out = args.out / f"steady_{kind}"
        driver = start_job(args, out)
        watch(driver, args, out, samples, lambda rows: False)
        print(compare(out, expected))
        print(f"{args.workers} workers: {rate_of(samples):.1f} images/s")
        print("\n".join(memory_lines(samples)))


if __name__ == "__main__":
    main()
