"""Hundreds of hostile requests: each is answered at once, with the right code, and harms nobody."""

import contextlib
import io
import json
import os
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_detector import boxes_image, form, png
from PIL import Image
from serving import wait_until
from test_uploads import bomb

GOOD = ("good.png", png(boxes_image((5, 6, 15, 26))))
NOISE = png(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
COUNT = 500
# Seconds for an answer. Other tests may run on the same cores, so that a few are allowed to be late
# here; benchmarks/serve.py allows none.
PROMPT, LATEST, MOST_LATE = 1.0, 10.0, 25
LATE_HEAD, LATE_BODY = 0.15, 0.5  # head_seconds and body_seconds of the server


def head(length, kind="multipart/form-data; boundary=x", method="POST", path="/v1/detect", more=""):
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def whole(*files):
    """A complete request with files."""
    body, kind = form(*files)
    return head(len(body), kind) + body


def json_request(content):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return head(len(body), "application/json") + body


def gif_of_many_frames(count):
    """A GIF of 1 x 1 pixels."""
    start = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    frame = b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    return start + frame * count + b";"


def png_of_zeros(side):
    """A small file of many pixels."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "PNG")
    return file.getvalue()


def chunked(size):
    """A form with a file, without a declared length."""
    body, kind = form(("a.png", bytes(size)))
    start = head(0, kind).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return start + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


SIXTY_MEGABYTES = bytes(60 * 2**20)

# Name -> the bytes of a request, and the code of its answer; None for a closed connection.
KINDS = {
    "truncated image": (whole(("a.png", NOISE[: len(NOISE) // 2])), 415),
    "truncated header": (whole(("a.png", NOISE[:20])), 415),
    "text": (whole(("a.png", b"this is no image")), 415),
    "empty file": (whole(("a.png", b"")), 415),
    "pdf": (whole(("a.jpg", b"%PDF-1.7 and more")), 415),
    "bomb": (whole(("a.png", bomb(30_000, 30_000))), 413),
    "image of many pixels": (whole(("a.png", png_of_zeros(9_000))), 413),
    "animation": (whole(("a.gif", gif_of_many_frames(100_000))), 415),
    "random bytes": (whole(("a.png", random.Random(0).randbytes(50_000))), 415),
    "60 MB": (head(len(SIXTY_MEGABYTES)) + SIXTY_MEGABYTES, 413),
    "60 MB in chunks": (chunked(60 * 2**20), 413),
    "deep JSON": (json_request(b'{"images":' * 50_000), 400),
    "wrong base64": (json_request({"image": "%%%"}), 400),
    "wrong type": (head(4, "text/html") + b"text", 415),
    "form without boundary": (head(4, "multipart/form-data") + b"text", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n", 400),
    "huge head": (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, 400),
    "slow head": (b"POST /v1/detect HTTP/1.1\r\nHost: lo", 408),
    "slow body": (head(1000) + b"--x\r\n", 408),
    "no request": (b"", 408),
}


def answer_to(port, request):
    """`(code, seconds)` of the answer to a raw request, whose client then stays connected."""
    start = time.monotonic()
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as sender:
        with contextlib.suppress(ConnectionError):  # the answer may come before the last byte
            sender.sendall(request)
        with contextlib.suppress(ConnectionError):
            line = sender.makefile("rb").readline()
            return int(line.split()[1]), time.monotonic() - start
    return None, time.monotonic() - start


@pytest.fixture(scope="module")
def patient(extra, tmp_path_factory):
    """A client of a server that waits for late heads and bodies for a fraction of a second."""
    from fake_detector import FakeLoader, weight_file
    from serving import running

    named = [("fake", weight_file(tmp_path_factory.mktemp("weights") / "w"))]
    with running(named, FakeLoader(), head_seconds=LATE_HEAD, body_seconds=LATE_BODY) as client:
        yield client


def open_files():
    """The number of open files of this process; 0 where Linux' /proc is missing."""
    folder = "/proc/self/fd"
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_its_code(patient, name):
    request, expected = KINDS[name]
    assert answer_to(patient.port, request)[0] == expected


def test_hostile_requests_are_answered_promptly_and_harm_nobody(patient):
    slow = [name for name in KINDS if name.startswith(("60 MB", "slow", "no request", "animation"))]
    others = [name for name in KINDS if name not in slow]
    rng = random.Random(1)
    requests = slow * 10 + rng.choices(others, k=COUNT - 10 * len(slow))
    rng.shuffle(requests)
    before = open_files()

    def send(name):
        code, seconds = answer_to(patient.port, KINDS[name][0])
        return name, code, seconds

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(send, requests)
        for _ in range(20):  # others are served meanwhile
            assert patient.detect(GOOD)[0] == 200
        answers = list(answers)
    assert len(answers) == COUNT
    assert [row for row in answers if row[1] != KINDS[row[0]][1]] == []
    late = [row for row in answers if row[2] >= PROMPT]
    assert len(late) <= MOST_LATE and all(row[2] < LATEST for row in late)
    assert patient.state.admission.images == patient.state.admission.pixels == 0
    # Connections of slow senders are closed, too.
    wait_until(lambda: len(patient.server.server_state.connections) == 0)
    wait_until(lambda: open_files() <= before + 2)


def test_half_closed_connections_are_closed(patient):
    for request in (b"", b"POST /v1/det", head(1000) + b"--x"):
        with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port))) as sender:
            sender.sendall(request)
            sender.shutdown(socket.SHUT_WR)
            sender.settimeout(5)
            with contextlib.suppress(ConnectionError):
                while sender.recv(1000):
                    pass
    wait_until(lambda: len(patient.server.server_state.connections) == 0)


def test_client_that_leaves_does_not_keep_its_place(patient):
    for _ in range(10):
        with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port))) as sender:
            sender.sendall(whole(GOOD)[:-20])
    wait_until(lambda: patient.state.admission.images == 0)
    assert patient.detect(GOOD)[0] == 200


def test_second_request_of_a_connection_is_watched_too(patient):
    with contextlib.closing(socket.create_connection(("127.0.0.1", patient.port))) as sender:
        sender.settimeout(5)
        sender.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        received = b""
        while data := sender.recv(10_000):
            received += data
    assert received.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in received


def test_idle_connections_do_not_block_others(patient):
    idle = [socket.create_connection(("127.0.0.1", patient.port)) for _ in range(100)]
    try:
        assert patient.detect(GOOD)[0] == 200
    finally:
        for one in idle:
            one.close()
