"""Many clients at once: no answer is lost or mixed up, and each is one of few places."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_detector import form, numbered_box, numbered_image, png, weight_file
from serving import wait_until

REQUESTS = 256
BODIES = [form((f"{n}.png", png(numbered_image(n)))) for n in range(REQUESTS)]


def ask_in_turn(port, numbers):
    """`(number, status, box)` of each request of one client over one connection."""
    rows = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        for number in numbers:
            body, kind = BODIES[number]
            connection.request("POST", "/v1/detect", body, {"Content-Type": kind})
            answer = connection.getresponse()
            rows.append((number, answer.status, box_in(json.load(answer))))
    return rows


def box_in(content):
    images = content.get("images", [])
    return [image["detections"][0]["box"] for image in images]


@pytest.mark.parametrize("clients", [1, 16, 64])
def test_every_answer_is_that_of_its_image(serve, clients):
    client = serve(seconds=0.002)
    shares = [range(i, REQUESTS, clients) for i in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        shares = pool.map(lambda numbers: ask_in_turn(client.port, numbers), shares)
        rows = list(itertools.chain(*shares))
    assert sorted(number for number, _, _ in rows) == list(range(REQUESTS))
    wrong = [row for row in rows if row[1:] != (200, [numbered_box(row[0])])]
    assert wrong == []
    (model,) = client.state.models
    batches = model.model.batches
    assert sum(batches) == REQUESTS + 1  # and the image with which the model was tried
    assert max(batches) <= 8
    if clients > 1:
        assert max(batches) > 1


def test_more_clients_than_places_get_503_or_their_answer(serve):
    client = serve(seconds=0.02, max_images=4)
    with ThreadPoolExecutor(32) as pool:
        rows = pool.map(lambda number: ask_in_turn(client.port, [number])[0], range(128))
        rows = list(rows)
    answered = [row for row in rows if row[1] == 200]
    assert answered and all(box == [numbered_box(number)] for number, _, box in answered)
    assert {status for _, status, _ in rows} == {200, 503}
    assert client.state.admission.images == 0


def test_request_of_several_images_shares_batches(serve):
    client = serve(seconds=0.01)
    groups = [range(i, i + 8) for i in range(0, 64, 8)]

    def ask(numbers):
        files = [(f"{n}.png", png(numbered_image(n))) for n in numbers]
        return client.detect(*files)[2]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, groups))
    for numbers, content in zip(groups, answers, strict=True):
        assert box_in(content) == [numbered_box(number) for number in numbers]


def test_stop_answers_what_was_accepted(serve):
    client = serve(seconds=0.2, batch_size=2)
    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(ask_in_turn, client.port, [number]) for number in range(12)]
        wait_until(lambda: client.state.admission.images == 12)
        client.server.should_exit = True
        rows = [future.result()[0] for future in futures]
    assert rows == [(number, 200, [numbered_box(number)]) for number in range(12)]


SCRIPT = """
import sys
from fake_detector import FakeLoader
from mrcnn.app import cli, serve_command
serve_command.FileLoader = lambda items: FakeLoader(seconds=0.05)
sys.exit(cli.main(sys.argv[1:]))
"""


@contextlib.contextmanager
def served(tmp_path, *words):
    """Yield the process and the port of `mrcnn serve` with a fake model."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    weights = weight_file(tmp_path / "w")
    command = [sys.executable, "-c", SCRIPT, "serve", weights, "--port", "0", *words]
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        yield process, int(line.rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_under_load_answers_what_was_accepted(extra, tmp_path, number):
    """A request without an answer was not accepted: the server counts those that it answered."""
    with served(tmp_path) as (process, port):
        stopped = threading.Event()

        def ask_until_closed(client):
            rows = []
            for i in itertools.count():
                try:
                    rows += ask_in_turn(port, [(client * 16 + i) % REQUESTS])
                except (OSError, http.client.HTTPException):
                    assert stopped.is_set(), "the server closed a connection before it was stopped"
                    return rows
            return rows

        with ThreadPoolExecutor(16) as pool:
            futures = [pool.submit(ask_until_closed, client) for client in range(16)]
            time.sleep(1)
            stopped.set()
            process.send_signal(number)
            rows = list(itertools.chain(*(future.result() for future in futures)))
        assert process.wait(30) == 0
        assert process.stdout.read() == "Stopped: every accepted request is answered.\n"
    assert len(rows) > 16
    assert all(row[1:] == (200, [numbered_box(row[0])]) for row in rows)
