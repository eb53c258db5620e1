"""What both peers share: the time of a train step, as one line of JSON."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

BATCHES = 4  # made once and used in turn
WARM_UP = 5  # steps, in which memory is allocated and kernels are chosen


def median_seconds(step: Callable[[Any], None], batches: Sequence[Any], calls: int) -> float:
    """The median time of `calls` steps after the warm-up; `step(batch)` returns when all of its work is done."""
    for i in range(WARM_UP):
        step(batches[i % len(batches)])
    seconds = []
    for i in range(calls):
        start = time.perf_counter()
        step(batches[i % len(batches)])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def report(framework: str, version: str, layout: str, batch_size: int, seconds: float) -> str:
    """One line of JSON."""
    return json.dumps(
        {
            "framework": framework,
            "version": version,
            "layout": layout,
            "batch_size": batch_size,
            "images_per_second": batch_size / seconds,
            "ms_per_step": 1000 * seconds,
        }
    )
