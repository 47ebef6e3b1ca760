"""The queue: order, batches, errors of single images, bounds, the end."""

import threading

import numpy as np
import pytest

from mrcnn.serve.batching import BatchQueue
from mrcnn.serve.errors import RequestError


def image(number):
    return np.full((1, 1, 3), number, np.uint8)


class Recorder:
    """Detects the number of an image; waits for `go` before each batch."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.begun = threading.Event()

    def detect(self, images):
        self.begun.set()
        assert self.go.wait(10)
        self.batches.append([int(one[0, 0, 0]) for one in images])
        if 13 in self.batches[-1]:
            raise ValueError("13 is unlucky")
        return self.batches[-1]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def queue(recorder):
    made = BatchQueue(recorder.detect, size=3, most=5)
    yield made
    recorder.go.set()
    made.close()


def fill(queue, recorder, *numbers):
    """Submit images of which the first is a batch of its own."""
    futures = [queue.submit(image(numbers[0]))]
    assert recorder.begun.wait(10)
    return futures + [queue.submit(image(number)) for number in numbers[1:]]


def test_empty_queue_closes():
    queue = BatchQueue(lambda images: images, size=2, most=2)
    assert (len(queue), queue.busy_seconds) == (0, 0)
    queue.close()


def test_waiting_images_form_batches_in_their_order(queue, recorder):
    futures = fill(queue, recorder, 1, 2, 3, 4, 5)
    assert len(queue) == 4 and queue.busy_seconds > 0
    recorder.go.set()
    assert [future.result(10) for future in futures] == [1, 2, 3, 4, 5]
    assert recorder.batches == [[1], [2, 3, 4], [5]]


def test_error_of_one_image_is_its_own(queue, recorder):
    futures = fill(queue, recorder, 1, 2, 13, 4)
    recorder.go.set()
    assert [futures[i].result(10) for i in (0, 1, 3)] == [1, 2, 4]
    with pytest.raises(ValueError, match="unlucky"):
        futures[2].result(10)
    assert recorder.batches == [[1], [2, 13, 4], [2], [13], [4]]


def test_too_few_results_are_an_error():
    queue = BatchQueue(lambda images: [], size=2, most=2)
    with pytest.raises(ValueError):
        queue.submit(image(1)).result(10)
    queue.close()


def test_full_queue_refuses(queue, recorder):
    fill(queue, recorder, 1, 2, 3, 4, 5, 6)
    with pytest.raises(RequestError, match="5 of 5") as refused:
        queue.submit(image(7))
    assert refused.value.status == 503


def test_cancelled_image_is_not_detected(queue, recorder):
    futures = fill(queue, recorder, 1, 2, 3)
    assert futures[1].cancel()
    recorder.go.set()
    assert futures[2].result(10) == 3
    assert recorder.batches == [[1], [3]]


def test_close_answers_what_waits_and_refuses_more(queue, recorder):
    futures = fill(queue, recorder, 1, 2, 3)
    recorder.go.set()
    queue.close()
    assert [future.result(0) for future in futures] == [1, 2, 3]
    with pytest.raises(RequestError):
        queue.submit(image(4))


def test_batch_waits_only_for_images_that_are_expected():
    expected = 2
    batches = []

    def detect(images):
        batches.append(len(images))
        return images

    queue = BatchQueue(detect, 8, 8, seconds=30, expects_more=lambda waiting: waiting < expected)
    first = queue.submit(image(1))
    second = queue.submit(image(2))
    assert first.result(10) is not None and second.result(10) is not None
    assert batches == [2]
    queue.close()
