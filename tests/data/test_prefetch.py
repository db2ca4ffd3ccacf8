"""Reading ahead: the same items, no further than asked, errors at their turn, and no thread that stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from ristretto.data import prefetched


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true within some seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("ahead", [0, 1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_same_items_in_the_same_order(ahead: int, count: int) -> None:
    assert list(prefetched(iter(range(count)), ahead)) == list(range(count))
    assert not readers()


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_no_more_items_are_made_than_it_may(ahead: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    taken = prefetched(items(), ahead)
    assert next(taken) == 0
    assert soon(lambda: len(made) == 1 + ahead)
    time.sleep(0.05)
    assert len(made) == 1 + ahead
    assert next(taken) == 1
    assert soon(lambda: len(made) == 2 + ahead)
    del taken


def test_items_are_made_while_the_consumer_works() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        made.set()
        yield 1

    taken = prefetched(items())
    next(taken)
    assert made.wait(10), "the second item is not made before it is asked for"
    assert list(taken) == [1]


def test_an_error_comes_at_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise KeyError("gone")

    taken = prefetched(items())
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="gone"):
        next(taken)
    assert not readers()


def test_the_thread_ends_when_the_consumer_stops_early() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    assert list(islice(prefetched(endless()), 3)) == [0, 1, 2]
    assert not readers(), "dropped"
    taken = prefetched(endless())
    next(taken)
    assert len(readers()) == 1
    taken.close()  # type: ignore[attr-defined]
    assert not readers(), "closed"


def test_the_thread_ends_when_the_consumer_fails() -> None:
    def consume() -> None:
        for number in prefetched(iter(range(100))):
            if number == 2:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        consume()
    assert not readers()


def test_nothing_starts_before_the_first_item_is_asked_for() -> None:
    taken = prefetched(iter(range(3)))
    assert not readers()
    assert list(taken) == [0, 1, 2]


SLOW = """
import sys, time
from ristretto.data import prefetched

def slow():
    for number in range(10**6):
        time.sleep(0.01)
        yield number

kept = prefetched(slow())
next(kept)
print("started", flush=True)
"""


def test_a_process_ends_with_a_thread_that_still_reads() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


def test_an_interrupt_ends_a_process_at_once() -> None:
    code = SLOW + "for _ in kept: pass\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
