"""Many processes as one run: they find each other, agree, and end together.

Every process runs the same program on its own devices. Only process 0 reads and writes the workdir; what it read there,
and whether it could write, goes to the others over the network.
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

CONNECT_SECONDS = 300  # for which a process waits for the others when it starts
FAREWELL = 2.0  # seconds by which process 0, without which nobody lives on, leaves later: all tell a mistake of all
LATE = 2  # calls after which processes know of each other's wish to stop, so that asking never waits for the devices


@contextlib.contextmanager
def together(coordinator: str | None, count: int | None, index: int | None, heartbeat: int) -> Iterator[None]:
    """Within the context this is process `index` of `count`; all None: what TPU, Slurm or Kubernetes say.

    To be entered before anything touches a device. A process that fails leaves at once, and one that hears nothing
    from another for `heartbeat` seconds ends with an error, so that no process ever waits for one that is gone.
    """
    jax.config.update("jax_enable_preemption_service", False)  # which takes SIGTERM from vae_jax.runtime.interrupt
    try:
        jax.distributed.initialize(
            coordinator, count, index, initialization_timeout=CONNECT_SECONDS, heartbeat_timeout_seconds=heartbeat
        )
    except ValueError as error:
        raise UserError(
            f"jax cannot tell which processes belong to this run: {error} Name them: --coordinator=HOST:PORT "
            "--num_processes=N --process_id=I."
        ) from None
    try:
        yield
        multihost_utils.sync_global_devices("the end")
    except BaseException:
        _leave()
    jax.distributed.shutdown()


def _leave() -> None:
    """Ends the process after an error as any command does, but without jax's farewell, which waits for the others."""
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
        print("This process leaves its run, and all others end; started again they go on together.", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def agreed(wish: Callable[[], bool], mesh: Mesh) -> Callable[[], bool]:
    """`wish`, made the same in all processes: whether one of them had it `LATE` calls ago, or ever before.

    All processes have to call it equally often. With one process it is `wish` itself.
    """
    if jax.process_count() == 1:
        return wish
    votes: deque[jax.Array] = deque()
    anybody = jax.jit(lambda vote: vote.any(), out_shardings=replicated(mesh))
    decided = False

    def asked() -> bool:
        nonlocal decided
        if not decided:
            mine = np.array([[wish()]])
            votes.append(anybody(jax.make_array_from_callback((1, mesh.size), split_batches(mesh), lambda _: mine)))
            decided = len(votes) > LATE and bool(votes.popleft())
        return decided

    return asked


def check_same_everywhere(given: Mapping[str, Any]) -> None:
    """UserError in all processes if what one of them was given, JSON by name, is not what process 0 was given."""
    if jax.process_count() == 1:
        return
    here = json.loads(json.dumps(given))
    there = on_first_process(lambda: here)
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    others = np.flatnonzero(multihost_utils.process_allgather(np.array(bool(names))))
    what = [f"  {name}: {there.get(name, 'nothing')} in process 0, {here.get(name, 'nothing')} here" for name in names]
    if others.size:
        raise UserError(
            f"Process {', '.join(map(str, others))} was not started as process 0 was"
            + (":\n" + "\n".join(what) if what else ", and says what differs.")
            + "\nStart all processes with the same command, data and weights."
        )


def on_first_process(work: Callable[[], Any]) -> Any:
    """What `work()`, done by process 0 alone, returns, JSON, in all processes; its UserError is raised in all of them.

    All processes have to call it, and wait in it for process 0.
    """
    if jax.process_count() == 1:
        return work()
    said = {}
    if jax.process_index() == 0:
        try:
            said = {"result": work()}
        except UserError as error:
            said = {"mistake": str(error)}
    text = json.dumps(said).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.array(len(text))))
    padded = np.frombuffer(text.ljust(length)[:length], np.uint8)
    said = json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))
    if "mistake" in said:
        raise UserError(said["mistake"])
    return said["result"]


def from_first(read: Callable[[Any], Any], target: Any) -> Any:
    """`read(target)`, a tree of arrays in the shardings of `target` or None, as process 0 has it, in all processes.

    Where there are others, process 0 is asked for arrays in its own memory, which then travel bit by bit. Its UserError
    is raised in all of them.
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
    """[bytes] uint8: a sum with zeros, which is how arrays travel, would make 0.0 of -0.0."""
    return np.frombuffer(np.asarray(leaf).tobytes(), np.uint8)
