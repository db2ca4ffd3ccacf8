"""Reading ahead: the next batches are made while the net runs the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], ahead: int = 2) -> Iterator[T]:
    """The same items, made by a thread of their own.

    The thread starts with the first item that is asked for and has ended when the iterator is exhausted, closed or
    dropped: it finishes the item it is at, no more. It does not keep a process from ending.

    Args:
        items: makes the items.
        ahead: how many are made before they are asked for; 0 makes each when it is.

    Raises:
        BaseException: what making an item raised, at the item's turn.
    """
    if ahead < 1:
        yield from items
        return
    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    room, stopped = Semaphore(ahead - 1), Event()
    reader = Thread(target=_read, args=(items, made, room, stopped), name="read ahead", daemon=True)
    reader.start()
    try:
        while (entry := made.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            room.release()
            yield entry[0]
    finally:
        stopped.set()
        room.release()
        reader.join()


def _read(
    items: Iterable[T], made: SimpleQueue[tuple[T] | BaseException | None], room: Semaphore, stopped: Event
) -> None:
    """Make the first item, and each next one when there is room for it; then None, or what went wrong."""
    try:
        for item in items:
            made.put((item,))
            room.acquire()
            if stopped.is_set():
                break
        made.put(None)
    except BaseException as error:  # whoever asks for the item is told
        made.put(error)
