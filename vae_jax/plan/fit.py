"""The largest batch that fits into the memory of a machine, with few compilations."""

from collections.abc import Callable, Mapping
from typing import Any

Record = Mapping[str, Any]
TRIES = 6


def largest_that_fits(plan_of: Callable[[int], Record], batch: int, unit: int, memory: float) -> Record:
    """The plan of the largest batch, a multiple of `unit`, that needs less than `memory` bytes on a device.

    Memory is nearly linear in the batch: each try is where the line through the two nearest plans meets `memory`, and
    the last one that fits is returned after at most TRIES; the first one tried if none does.
    """
    tried = {size: plan_of(size) for size in (batch, 2 * batch)}
    for _ in range(TRIES - len(tried)):
        fits = [size for size, record in tried.items() if record["memory"]["fits"]]
        low, high = max(fits, default=0), min((size for size in tried if size not in fits), default=None)
        near, far = sorted(tried, key=lambda size: abs(tried[size]["memory"]["total"] - memory))[:2]
        rise = (tried[near]["memory"]["total"] - tried[far]["memory"]["total"]) / (near - far)
        if rise <= 0:
            break
        size = int(near + (memory - tried[near]["memory"]["total"]) / rise) // unit * unit
        size = max(size, low + unit, unit)
        if high is not None:
            size = min(size, high - unit)
        if size in tried or size <= low:
            break
        tried[size] = plan_of(size)
    fits = [size for size, record in tried.items() if record["memory"]["fits"]]
    return tried[max(fits)] if fits else tried[min(tried)]
