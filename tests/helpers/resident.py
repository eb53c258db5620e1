"""A process that trains 2,000 steps of a small model and reports its memory: see test_efficiency.py.

The last line of its output is a list of [step, megabytes of resident memory, arrays on devices]. Freed memory that
malloc keeps is returned first: its amount depends on which threads freed it.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

import jax

from vae_jax import train
from vae_jax.cli import load_config
from vae_jax.runs import progress

ROOT = Path(__file__).parents[2]
HELD = []


def megabytes() -> float:
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watched(progress.Progress):
    """Records the memory of the process after each line."""

    def log(self, step: int) -> None:
        super().log(step)
        HELD.append((step, megabytes(), len(jax.live_arrays())))


if __name__ == "__main__":
    config = load_config(f"{ROOT}/configs/vae_mnist.py:smoke")
    config.update(steps=2_000, image_size=16, log_every=100, eval_every=2_000, checkpoint_every=2_000)
    train.Progress = Watched
    train.train(config.lock(), sys.argv[1])
    print(json.dumps(HELD))
