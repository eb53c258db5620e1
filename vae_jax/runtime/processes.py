"""Several processes as one run: they find each other, agree, and end together.

Every process runs the same program on its own devices. Only process 0 reads and writes the workdir; it sends what it
read, and whether it could write, to the others over the network.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from vae_jax.errors import MISTAKE, UserError, mistakes_told
from vae_jax.runtime.sharding import place, replicated, split_batches

CONNECT_SECONDS = 300  # that a process waits for the others when it starts
FAREWELL = 2.0  # seconds that process 0, whose exit ends all others, waits so that all can report a shared error
LATE = 2  # calls until all processes know that one wants to stop, so that asking never waits for the devices


@contextlib.contextmanager
def together(coordinator: str | None, count: int | None, index: int | None, heartbeat: int) -> Iterator[None]:
    """Within the context, this is process `index` of `count`; if all are None, as TPU, Slurm or Kubernetes say.

    Enter it before anything uses a device. A process that fails exits at once, and one that hears nothing from another
    for `heartbeat` seconds ends with an error, so no process ever waits for one that is gone.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from interrupt.py
    try:
        jax.distributed.initialize(
            coordinator, count, index, initialization_timeout=CONNECT_SECONDS, heartbeat_timeout_seconds=heartbeat
        )
    except ValueError as error:
        raise UserError(
            f"jax cannot determine the processes of this run: {error} Pass --coordinator=HOST:PORT --num_processes=N "
            "--process_id=I."
        ) from None
    try:
        yield
        multihost_utils.sync_global_devices("the end")
    except BaseException:
        _leave()
    jax.distributed.shutdown()


def _leave() -> None:
    """Ends the process after an error as any command does, but without jax's shutdown, which waits for the others."""
    code: Any = 1
    try:
        with mistakes_told():
            raise
    except SystemExit as end:
        code = end.code
        if jax.process_index() == 0 and code == MISTAKE:
            time.sleep(FAREWELL)
    except BaseException:
        traceback.print_exc()
        print("This process failed, so all others will end. Start them again to resume.", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def agreed(wish: Callable[[], bool], mesh: Mesh) -> Callable[[], bool]:
    """`wish`, made the same in all processes: whether any of them had it `LATE` calls ago or earlier.

    All processes must call it equally often. With one process it is `wish` itself.
    """
    if jax.process_count() == 1:
        return wish
    votes: deque[jax.Array] = deque()
    any_vote = jax.jit(lambda vote: vote.any(), out_shardings=replicated(mesh))
    decided = False

    def asked() -> bool:
        nonlocal decided
        if not decided:
            mine = np.array([[wish()]])
            votes.append(any_vote(jax.make_array_from_callback((1, mesh.size), split_batches(mesh), lambda _: mine)))
            decided = len(votes) > LATE and bool(votes.popleft())
        return decided

    return asked


def check_same_everywhere(given: Mapping[str, Any]) -> None:
    """UserError in all processes unless `given`, JSON by name, is the same in every one of them."""
    if jax.process_count() == 1:
        return
    here = json.loads(json.dumps(given))
    there = on_first_process(lambda: here)
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    others = np.flatnonzero(multihost_utils.process_allgather(np.array(bool(names))))
    lines = [f"  {name}: {there.get(name, 'nothing')} in process 0, {here.get(name, 'nothing')} here" for name in names]
    if others.size:
        raise UserError(
            f"Process {', '.join(map(str, others))} was started differently from process 0"
            + (":\n" + "\n".join(lines) if lines else "; its own message says how.")
            + "\nStart all processes with the same command, data and weights."
        )


def on_first_process(work: Callable[[], Any]) -> Any:
    """Runs `work()` in process 0 only and returns its result, JSON, in all processes, or raises its UserError in all.

    All processes must call it; they wait for process 0.
    """
    if jax.process_count() == 1:
        return work()
    answer = {}
    if jax.process_index() == 0:
        try:
            answer = {"result": work()}
        except UserError as error:
            answer = {"error": str(error)}
    text = json.dumps(answer).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.array(len(text))))
    padded = np.frombuffer(text.ljust(length)[:length], np.uint8)
    answer = json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["result"]


def from_first(read: Callable[[Any], Any], target: Any) -> Any:
    """Calls `read(target)` in process 0 and returns its result in all: a tree like `target` in its shardings, or None.

    With several processes, process 0 reads arrays into its own memory, which are then sent bit by bit. Its UserError is
    raised in all of them.
    """
    if jax.process_count() == 1:
        return read(target)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), target)
    found = None

    def look() -> bool:
        nonlocal found
        found = read(empty)
        return found is not None

    if not on_first_process(look):
        return None
    first = jax.tree.map(_to_bytes, empty if found is None else found)
    everywhere = multihost_utils.broadcast_one_to_all(first)
    leaves = jax.tree.map(lambda data, leaf: data.view(leaf.dtype).reshape(leaf.shape), everywhere, empty)
    return jax.tree.map(lambda leaf, wanted: place(leaf, wanted.sharding), leaves, target)


def _to_bytes(leaf: Any) -> np.ndarray:
    """[bytes] uint8: arrays are sent as a sum with zeros, which would turn -0.0 into 0.0."""
    return np.frombuffer(np.asarray(leaf).tobytes(), np.uint8)
