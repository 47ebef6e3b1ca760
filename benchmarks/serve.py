"""What `mrcnn serve` answers under load: `python benchmarks/serve.py WEIGHTS`.

Starts a server on this machine, asks it over loopback, and prints a table: images per second and
times for 1, 16 and 64 clients with and without batches, whether an answer was lost or is another
image's, memory over many requests, and the times of hostile requests. Every loop is bounded.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = (1, 16, 64)
IMAGES = 32  # different ones
HOSTILE_KINDS = (
    "truncated image", "text", "empty file", "bomb", "image of many pixels", "animation",
    "random bytes", "60 MB", "60 MB in chunks", "deep JSON", "wrong base64", "wrong type",
    "no HTTP", "huge head",
)  # fmt: skip
# Boxes of one image, detected in batches of different sizes, may differ by rounding.
MAX_PIXELS = 2.0


class Row(NamedTuple):
    """One measurement: `rate` in images per second, times in milliseconds."""

    batch: int
    clients: int
    rate: float
    median: float
    p99: float
    refused: int
    wrong: int


@contextlib.contextmanager
def served(weights: str, batch: int) -> Iterator[int]:
    """Yield the port of a server, which is stopped afterwards by SIGTERM."""
    words = ["serve", weights, "--port", "0", "--batch", str(batch), "--max-megabytes", "20"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "mrcnn", *words]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        print(f"exit code {process.returncode}: {process.stdout.read().strip()}")


def made_images(side: int) -> list[bytes]:
    """PNG files of made shapes, all different."""
    from mrcnn.data.shapes import ShapesDataset

    dataset = ShapesDataset(IMAGES, (side, side), seed=99)
    files = []
    for image_id in range(IMAGES):
        file = io.BytesIO()
        Image.fromarray(dataset.load_image(image_id)).save(file, "PNG")
        files.append(file.getvalue())
    return files


def ask(connection: http.client.HTTPConnection, image: bytes) -> tuple[int, dict]:
    """The status and the content of the answer to one image."""
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    connection.request("POST", "/v1/detect", body + image + b"\r\n--x--\r\n", headers)
    answer = connection.getresponse()
    return answer.status, json.load(answer)


def is_same(content: dict, expected: dict) -> bool:
    """Whether an answer has the objects of another answer for the same image."""
    found, wanted = (one["images"][0]["detections"] for one in (content, expected))
    if [one["class_id"] for one in found] != [one["class_id"] for one in wanted]:
        return False
    boxes = [np.reshape([one["box"] for one in row], (-1, 4)) for row in (found, wanted)]
    return bool(np.all(np.abs(boxes[0] - boxes[1]) <= MAX_PIXELS))


def load(port: int, images: list[bytes], expected: list[dict], clients: int, count: int) -> Row:
    """Ask `count` times from several clients, each over a connection of its own."""

    def client(first: int) -> list[tuple[int, bool, float]]:
        rows = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        with contextlib.closing(connection):
            for i in range(first, count, clients):
                start = time.perf_counter()
                status, content = ask(connection, images[i % IMAGES])
                seconds = time.perf_counter() - start
                right = status == 200 and is_same(content, expected[i % IMAGES])
                rows.append((status, right, seconds))
        return rows

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        rows = [row for share in pool.map(client, range(clients)) for row in share]
    rate = count / (time.perf_counter() - start)
    assert len(rows) == count, "an answer was lost"
    refused = sum(status == 503 for status, _, _ in rows)
    wrong = sum(not right for status, right, _ in rows if status != 503)
    median, p99 = 1000 * np.percentile([seconds for _, _, seconds in rows], [50, 99])
    return Row(0, clients, rate, median, p99, refused, wrong)


def memory(port: int) -> float:
    """The resident memory of the server in MB."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)[1]) / 2**20


def hostile(port: int, count: int) -> dict[str, float]:
    """Kind of request -> its slowest answer in seconds, all with the right code."""
    sys.path.insert(0, str(ROOT / "tests" / "serve"))
    from test_hostile_requests import KINDS, answer_to

    slowest: dict[str, float] = {}
    for i in range(count):
        name = HOSTILE_KINDS[i % len(HOSTILE_KINDS)]
        request, expected = KINDS[name]
        code, seconds = answer_to(port, request)
        assert code == expected, f"{name}: {code} in place of {expected}"
        slowest[name] = max(seconds, slowest.get(name, 0))
    return slowest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("--side", type=int, default=128, help="of the images (%(default)s)")
    parser.add_argument("--requests", type=int, default=256, help="per row (%(default)s)")
    parser.add_argument("--memory", type=int, default=2000, help="requests (%(default)s)")
    parser.add_argument("--hostile", type=int, default=500, help="requests (%(default)s)")
    args = parser.parse_args()
    images = made_images(args.side)
    print("| batch | clients | images/s | median ms | p99 ms | 503 | wrong |")
    print("|---|---|---|---|---|---|---|")
    for batch in (1, 8):
        with served(args.weights, batch) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            expected = [ask(connection, image)[1] for image in images]
            connection.close()
            for clients in CLIENTS:
                row = load(port, images, expected, clients, args.requests)._replace(batch=batch)
                print("|", " | ".join(f"{value:.4g}" for value in row), "|", flush=True)
            if batch > 1:
                before = memory(port)
                load(port, images, expected, 16, args.memory)
                after = memory(port)
                growth = 100 * (after / before - 1)
                print(
                    f"memory {before:.0f} MB, after {args.memory} more requests {after:.0f} MB "
                    f"({growth:+.1f} %)"
                )
                slowest = hostile(port, args.hostile)
                name = max(slowest, key=slowest.__getitem__)
                print(f"{args.hostile} hostile requests: slowest {slowest[name]:.2f} s ({name})")


if __name__ == "__main__":
    main()
