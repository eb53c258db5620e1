"""Shared by both peers: they read a number of steps and answer how long these took."""

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

BATCHES = 4  # made once and used in turn
WARM_UP = 5  # steps, in which memory is allocated and kernels are chosen


def answer(framework: str, version: str, layout: str, step: Callable[[Any], None], batches: Sequence[Any]) -> None:
    """Prints a description as one line of JSON, then, for every number of steps that it reads, the seconds they took.

    `step(batch)` returns when all of its work is done.
    """
    rest = itertools.cycle(batches)
    for batch in itertools.islice(rest, WARM_UP):
        step(batch)
    print(json.dumps({"framework": framework, "version": version, "layout": layout}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for batch in itertools.islice(rest, int(line)):
            step(batch)
        print(time.perf_counter() - start, flush=True)
