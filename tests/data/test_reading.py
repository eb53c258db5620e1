"""What is not in memory is read ahead by threads and processes, in one order, and a process that dies is replaced."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from vae_jax.data import reading
from vae_jax.data.contract import Dataset, Reading
from vae_jax.data.reading import PIECE, read_ahead
from vae_jax.errors import UserError

CALL = 3 * PIECE + 1  # examples


def numbered(indices: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": np.zeros((len(indices), 2, 3, 1), np.uint8) + indices[:, None, None, None].astype(np.uint8),
            "label": indices.astype(np.int32)}  # fmt: skip


def indices(call: int) -> np.ndarray:
    return (7 * np.arange(CALL) + call) % 200


def of(threads: int, workers: int) -> Dataset:
    return Dataset(200, (2, 3, 1), numbered, reading=Reading(threads, workers))


def workers() -> list:
    return [child for child in multiprocessing.active_children() if "grain" in child.name]


@pytest.mark.parametrize("threads, processes", [(1, 0), (3, 0), (1, 1), (2, 2)])
def test_the_order_does_not_depend_on_who_reads(threads, processes):
    calls = [*read_ahead(of(threads, processes), indices, 4)]
    assert len(calls) == 4
    for call, rows in enumerate(calls):
        np.testing.assert_array_equal(rows["label"], indices(call))
        np.testing.assert_array_equal(rows["image"][:, 0, 0, 0], indices(call))
    assert not workers()


def test_a_process_that_dies_is_replaced(capfd):
    stream = read_ahead(of(1, 2), indices, 50)
    first = [next(stream)["label"] for _ in range(2)]
    assert len(workers()) == 2
    os.kill(workers()[0].pid, signal.SIGKILL)
    rest = [rows["label"] for rows in stream]
    np.testing.assert_array_equal(np.stack(first + rest), [indices(call) for call in range(50)])
    assert "a process that reads images died and is started again: " in capfd.readouterr().err


def test_processes_that_die_again_and_again(monkeypatch):
    monkeypatch.setattr(reading, "RESTARTS", 1)
    parent = os.getpid()

    def read(some):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return numbered(some)

    with pytest.raises(UserError, match=r"die again and again: .*exit code -9(.|\n)*data\.workers"):
        next(read_ahead(of(1, 1)._replace(read=read), indices, 2))


def test_an_error_of_the_reader_is_not_hidden():
    def read(some):
        raise UserError("no label 12")

    for processes in (0, 1):
        with pytest.raises(UserError, match="no label 12"):
            next(read_ahead(of(1, processes)._replace(read=read), indices, 2))


def test_nothing_is_left_of_a_stream_that_is_closed():
    stream = read_ahead(of(1, 2), indices, 50)
    next(stream)
    began = time.monotonic()
    stream.close()
    assert not workers() and time.monotonic() - began < 10
