"""Ctrl-C and SIGTERM: a run saves its last finished step, says how to resume, and exits with code 0.

Stopping waits for at most one train call, one batch of an evaluation, or the writing of one checkpoint.
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
GRACE = 1.0  # seconds that the main thread has to end by itself after a second signal
INTERRUPTIBLE = "interruptible work"  # thread name

T = TypeVar("T")


class Stopped(BaseException):
    """Work was abandoned because a stop was requested; nothing saved is lost."""


class Stop:
    """Whether a stop was requested. While `at_once` is set, requesting one raises Stopped in the main thread."""

    def __init__(self):
        self.asked = False
        self.at_once = False

    def __call__(self) -> bool:
        return self.asked

    @contextlib.contextmanager
    def raising(self, alone: bool) -> Iterator[None]:
        """Sets `at_once` within the context, where something may be waited for without an end; never in one of several
        processes, which stop together."""
        self.at_once = alone
        if alone and self.asked:
            raise Stopped
        try:
            yield
        finally:
            self.at_once = False


@contextlib.contextmanager
def stop_requested() -> Iterator[Stop]:
    """Within the context, the first SIGINT or SIGTERM only makes the yielded Stop return True, and prints a message.

    A second one quits at once, as it would without this context. If the main thread is busy outside Python, where it
    cannot handle signals, the process ends after GRACE seconds with exit code 128 + signal, the shell's convention.
    """
    stop, over, received = Stop(), threading.Event(), []
    read_end, write_end = os.pipe()

    def handle(number, frame):  # in the main thread, once it is in Python
        received.append(number)
        stop.asked = True
        if len(received) > 1:
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        elif stop.at_once:
            raise Stopped

    def watch():  # in a thread, immediately
        signals = (byte[0] for byte in iter(lambda: os.read(read_end, 1), b"") if byte[0] in SIGNALS)
        for count, number in enumerate(signals, 1):
            stop.asked = True
            if count == 1:
                os.write(2, b"\nstopping; press Ctrl-C again to quit now\n")
            elif not over.wait(GRACE):
                os._exit(128 + number)

    os.set_blocking(write_end, False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    previous_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        over.set()
        os.close(write_end)
        watcher.join()
        os.close(read_end)


def interruptibly(work: Callable[[], T]) -> T:
    """Runs `work()` in a thread, so that an exception from a signal does not wait for it but abandons the thread."""
    future: Future[T] = Future()

    def run():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=INTERRUPTIBLE, daemon=True).start()
    return future.result()


def end_without_threads(code: int | str | None) -> None:
    """Ends the process at once if `interruptibly` has abandoned a thread, with which Python cannot exit cleanly."""
    if any(thread.name == INTERRUPTIBLE for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
