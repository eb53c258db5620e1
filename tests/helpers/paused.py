"""Run by test_stops.py: `python paused.py PHASE FLAGS...` is vae_jax.main, paused in a phase until a stop is requested.

It prints `paused in PHASE` on arrival. In `saving`, a thread is paused that writes a checkpoint, and the step after it.
Four phases do not wait for a stop: `compiling` compiles for minutes and `computing` computes for minutes, both outside
Python, `sleeping` sleeps, and in `reading` a disk stalls after the first step.
"""

import contextlib
import faulthandler
import runpy
import sys
import threading
import time

import jax
import jax.numpy as jnp

from vae_jax import evaluate, train
from vae_jax.data import image_set
from vae_jax.runs import checkpoint, progress
from vae_jax.runtime import interrupt

faulthandler.dump_traceback_later(600, exit=True)  # where its test has failed
PHASE = sys.argv.pop(1)
STOPS: list[interrupt.Stop] = []


def say() -> None:
    print(f"paused in {PHASE}", flush=True)


def wait() -> None:
    """Says so, and waits until a stop is requested."""
    say()
    wait_silently()


def wait_silently() -> None:
    while not STOPS[-1].asked:
        time.sleep(0.01)


def before(owner, name: str, pause=wait, when=lambda *arguments: True) -> None:
    """Pauses before the first call of owner.name with matching arguments."""
    function, calls = getattr(owner, name), []

    def paused(*arguments, **options):
        if not calls and when(*arguments):
            calls.append(1)
            pause()
        return function(*arguments, **options)

    setattr(owner, name, paused)


@contextlib.contextmanager
def known_stop():
    with interrupt.stop_requested() as stop:
        STOPS.append(stop)
        yield stop


def compile_for_minutes(*_) -> None:
    def large(x):
        for i in range(1000):
            x = jnp.sin(x @ x) + jax.nn.relu(x[::-1]) * i
        return x

    lowered = jax.jit(large).lower(jnp.ones((64, 64)))
    say()
    lowered.compile()


def sleep_for_minutes() -> None:
    say()
    time.sleep(600)


def compute_for_minutes() -> None:
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 10**9, lambda i, x: jnp.sin(x) + i, x))
    busy, ones = loop.lower(jnp.ones(1000)).compile(), jnp.ones(1000)
    threading.Timer(1.0, say).start()  # by then this thread waits for the result
    jax.block_until_ready(busy(ones))


class PausedFeed(evaluate.Feed):
    """Pauses before the second batch."""

    def __call__(self, indices, calls):
        for number, batches in enumerate(super().__call__(indices, calls)):
            if number == 1:
                wait()
            yield batches


def stall(path, convert):
    if STALLED:
        time.sleep(600)
    return READ_IMAGE(path, convert)


STALLED, READ_IMAGE = [], image_set.read_image
train.stop_requested = known_stop
match PHASE:
    case "compiling":
        train.interruptibly = lambda work: interrupt.interruptibly(compile_for_minutes)
    case "computing":
        before(progress.Progress, "add", compute_for_minutes)
    case "sleeping":
        before(progress.Progress, "add", sleep_for_minutes)
    case "reading":
        image_set.read_image = stall
        before(train.Profile, "run", lambda: (say(), STALLED.append(1)))
    case "stepping":
        before(progress.Progress, "add")
    case "judging":
        evaluate.Feed = PausedFeed
    case "drawing":
        before(evaluate, "save_png")
    case "saving":
        before(checkpoint, "_sums", when=lambda folder: folder.name.endswith(checkpoint.UNFINISHED))
        before(train.Profile, "run", wait_silently, when=lambda trace, step, *_: step == 3)

runpy.run_module("vae_jax.main", run_name="__main__")
