"""Ctrl-C and SIGTERM: a run saves its last finished step, says how to go on, and ends with exit code 0.

A stop waits for no more than one train call, one batch of an evaluation, or the writing of one checkpoint.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST_WORD = 1.0  # seconds that a second signal leaves the main thread to end by itself
INTERRUPTIBLE = "interruptible work"  # the name of its threads

T = TypeVar("T")


class Stopped(BaseException):
    """Work was given up because a stop was asked for; nothing is lost by it."""


class Stop:
    """Whether a stop was asked for. While `at_once` is set, asking for one raises Stopped in the main thread."""

    def __init__(self):
        self.asked = False
        self.at_once = False

    def __call__(self) -> bool:
        return self.asked


@contextlib.contextmanager
def stop_requested() -> Iterator[Stop]:
    """Within the context the first SIGINT or SIGTERM only makes the yielded Stop return True, and says so.

    A second one leaves at once, as it would have without this context; where the main thread is busy outside of
    Python, where it cannot hear of it, the process ends after LAST_WORD with exit code 128 + signal, as shells say it.
    """
    stop, over, calls = Stop(), threading.Event(), []
    hears, tells = os.pipe()

    def handle(number, frame):  # in the main thread, when it is in Python
        calls.append(number)
        stop.asked = True
        if len(calls) > 1:
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        elif stop.at_once:
            raise Stopped

    def watch():  # in a thread, immediately
        signals = (byte[0] for byte in iter(lambda: os.read(hears, 1), b"") if byte[0] in SIGNALS)
        for count, number in enumerate(signals, 1):
            stop.asked = True
            if count == 1:
                os.write(2, b"\nstopping; once more leaves at once\n")
            elif not over.wait(LAST_WORD):
                os._exit(128 + number)

    os.set_blocking(tells, False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    previous_tells = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(previous_tells)
        for number, handler in previous.items():
            signal.signal(number, handler)
        over.set()
        os.close(tells)
        watcher.join()
        os.close(hears)


def interruptibly(work: Callable[[], T]) -> T:
    """`work()` in a thread, so that a signal's exception need not wait for it: the thread is then left to itself."""
    future: Future[T] = Future()

    def run():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=INTERRUPTIBLE, daemon=True).start()
    return future.result()


def end_without_threads(code: int | str | None) -> None:
    """Ends the process where `interruptibly` has left a thread behind, beneath which Python could not end cleanly."""
    if any(thread.name == INTERRUPTIBLE for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
