"""Work that a thread does before its results are asked for."""

import queue
import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from vae_jax.runtime.interrupt import INTERRUPTIBLE

LATE = 30.0  # seconds until a wait is told, and told again
CLOSING = 5.0  # seconds that a thread has to end

T = TypeVar("T")


def ahead(items: Generator[T, None, None], count: int, what: str) -> Iterator[T]:
    """The same items, `count` of which are made in a thread before they are asked for, from now on.

    Who waits for `what` too long is told so on stderr. A wait ends by an exception from a signal, and then the thread
    is left behind, see `interrupt.end_without_threads`.
    """
    made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    room, closed = threading.Semaphore(count), threading.Event()

    def work():
        try:
            while True:
                room.acquire()
                if closed.is_set():
                    break
                made.put((next(items), None))
        except BaseException as error:
            made.put((None, error))
        finally:
            items.close()

    thread = threading.Thread(target=work, name=INTERRUPTIBLE, daemon=True)
    thread.start()
    return _taken(made, room, closed, thread, what)


def _taken(
    made: queue.SimpleQueue, room: threading.Semaphore, closed: threading.Event, thread: threading.Thread, what: str
) -> Iterator:
    try:
        while True:
            item, error = _wait(made, what)
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        closed.set()
        room.release()
        thread.join(CLOSING)


def _wait(made: queue.SimpleQueue, what: str) -> tuple[Any, BaseException | None]:
    began = time.monotonic()
    while True:
        try:
            return made.get(timeout=LATE)
        except queue.Empty:
            waited = time.monotonic() - began
            print(f"waiting for {what} for {waited:.0f} s: is a disk or the network slow?", file=sys.stderr)
