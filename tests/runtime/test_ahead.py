"""Work done ahead of time: how far, what it raises, what is told of a wait, and what ends."""

import threading
import time

import pytest

from vae_jax.runtime import ahead as module
from vae_jax.runtime.ahead import ahead
from vae_jax.runtime.interrupt import INTERRUPTIBLE


def counted(made: list, stop: int = 100):
    try:
        for number in range(stop):
            made.append(number)
            yield number
    finally:
        made.append("closed")


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_are_made_before_they_are_asked_for():
    made = []
    items = ahead(counted(made), 2, "numbers")
    for taken in range(4):
        wait_until(lambda taken=taken: len(made) == taken + 2)
        time.sleep(0.05)
        assert len(made) == taken + 2
        assert next(items) == taken
    items.close()
    assert made[-1] == "closed" and not [t for t in threading.enumerate() if t.name == INTERRUPTIBLE]


def test_the_end_and_an_error_arrive_in_their_places():
    assert [*ahead(counted([], 5), 2, "numbers")] == [0, 1, 2, 3, 4]

    def broken():
        yield 1
        raise OSError("gone")

    items = ahead(broken(), 2, "numbers")
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)


def test_a_wait_is_told_and_can_be_abandoned(monkeypatch, capsys):
    monkeypatch.setattr(module, "LATE", 0.05)
    monkeypatch.setattr(module, "CLOSING", 0.1)
    done = threading.Event()

    def slow():
        done.wait()
        yield 1

    items = ahead(slow(), 2, "images of DIR")
    threading.Timer(0.3, done.set).start()
    assert next(items) == 1
    assert "waiting for images of DIR for 0 s: is a disk or the network slow?" in capsys.readouterr().err
