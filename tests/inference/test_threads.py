"""The lock and the prefetching iterator."""

import threading
import time

import pytest

from mrcnn.inference.threads import ReadWriteLock, prefetch_one


def test_writer_waits_for_readers_and_excludes_later_ones():
    lock, order = ReadWriteLock(), []
    inside, leave = threading.Barrier(3), threading.Event()

    def read(name):
        with lock.reading():
            inside.wait()  # both of the first readers share the lock
            leave.wait()
            order.append(name)

    def write():
        with lock.writing(), lock.writing():
            order.append("writer")

    def read_later():
        with lock.reading():
            order.append("later")

    threads = [threading.Thread(target=read, args=["reader"]) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    for target in (write, read_later):
        threads.append(threading.Thread(target=target))
        threads[-1].start()
        time.sleep(0.05)
    assert order == []
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["reader", "reader", "writer", "later"]


def test_items_are_computed_one_ahead():
    computed = []

    def numbers():
        for number in range(5):
            computed.append(number)
            yield number

    for number in prefetch_one(numbers()):
        deadline = time.monotonic() + 10
        while len(computed) < min(number + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(computed) == min(number + 2, 5)


def test_error_of_the_iterable_is_raised_at_its_item():
    def failing():
        yield 1
        raise OSError("gone")

    items = prefetch_one(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
