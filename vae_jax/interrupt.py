"""Ctrl-C and SIGTERM: a run finishes its step, saves and says how to go on."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Within the context the first SIGINT or SIGTERM only makes the yielded function return True.

    A second one leaves at once, as it would have without this context.
    """
    asked = False

    def handle(number, frame):
        nonlocal asked
        if asked:
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        asked = True
        os.write(2, b"\nstopping after this step; once more leaves at once\n")  # print is not safe in a handler

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
