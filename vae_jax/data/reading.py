"""Examples that are not in memory, read ahead by Grain: in threads of this process, or in processes of their own.

What is read is cut into pieces, each a pure function of its number, so that no order depends on who reads.
"""

import functools
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
from absl import flags

from vae_jax.data.contract import Dataset
from vae_jax.errors import UserError

PIECE = 8  # examples that are read one after the other
READY = 2  # pieces for each that reads
RESTARTS = 3  # of processes that died, until the next call is there
WATCHED_EVERY = 1.0  # seconds, whether the parent is there

Rows = dict[str, np.ndarray]


def read_ahead(dataset: Dataset, indices: Callable[[int], np.ndarray], calls: int) -> Generator[Rows, None, None]:
    """The examples of the calls 0 to calls - 1: indices(call) [n], n the same for all -> those arrays [n, ...].

    Processes that die are started again, UserError if they die again and again.
    """
    pieces, read, attempt, tell = -(-len(indices(0)) // PIECE), dataset.read, dataset.attempt, dataset.tell

    def piece(number: int) -> tuple[Rows, dict[str, str]]:
        call, part = divmod(number, pieces)
        some = indices(call)[part * PIECE : (part + 1) * PIECE]
        return attempt(some) if attempt else (read(some), {})

    call, died = 0, 0
    while call < calls:
        stream = _stream(piece, range(call * pieces, calls * pieces), dataset)
        try:
            while call < calls:
                parts, lost = zip(*(next(stream) for _ in range(pieces)), strict=True)
                if tell:
                    tell(functools.reduce(operator.or_, lost))
                yield {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
                call, died = call + 1, 0
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            died += 1
            if died > RESTARTS:
                raise _died(error) from None
            print(f"a process that reads images died and is started again: {error}", file=sys.stderr)
        finally:
            stream.close()


def _died(error: Exception) -> UserError:
    return UserError(
        f"The processes that read images die again and again: {error}\nThe machine may lack memory, or shared memory "
        "(/dev/shm): lower data.workers, or set it to 0, which reads in threads."
    )


def _stream(piece: Callable[[int], tuple[Rows, dict[str, str]]], numbers: range, dataset: Dataset) -> Any:
    """Grain's iterator over the pieces with these numbers."""
    import grain  # slow to import

    grain.config.update("py_traceback_filtering", "off")  # which adds words to messages
    workers = dataset.reading.workers
    threads = dataset.reading.threads or (1 if workers else os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=READY * threads)
    stream = grain.MapDataset.range(numbers.start, numbers.stop).map(piece).to_iter_dataset(options)
    if workers:
        _quieten_tracker()
        if not flags.FLAGS.is_parsed():  # Grain asks for flags of its own
            flags.FLAGS.mark_as_parsed()
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=READY)
        stream = stream.mp_prefetch(processes, functools.partial(_begin_worker, os.getpid()))
    return iter(stream)


def _begin_worker(parent: int, _index: int, _count: int) -> None:
    """A stop is the parent's to handle, and none reads on when it is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(WATCHED_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _quieten_tracker() -> None:
    """Has multiprocessing free in silence what a process left in shared memory when its stream was closed."""
    ignore = "ignore:resource_tracker"
    sys.warnoptions.append(ignore)  # which the tracker inherits
    resource_tracker.ensure_running()
    sys.warnoptions.remove(ignore)
