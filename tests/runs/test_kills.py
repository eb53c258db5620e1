"""Real processes, killed at random times: exact from the last complete step, without leftovers."""

import random
import time

import pytest
from helpers.processes import assert_same_state, assert_tidy, finish, start, wait_for

OFTEN = ("--config.checkpoint_every=1", "--config.eval_every=4")  # nearly always writing something


def newest(run) -> int:
    """The newest finished step, or 0."""
    return max((int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdigit()), default=0)


@pytest.mark.slow
def test_killed_at_ten_random_times(tmp_path):
    run, seconds, reached = tmp_path / "run", random.Random(0), 0
    for number in range(10):
        process = start(run, *OFTEN, "--config.steps=100000")
        wait_for(process, "images/s" if number % 4 else "compiling the train step")
        time.sleep(seconds.uniform(0, 2))
        process.kill()
        with process:
            process.stdout.read()
        assert newest(run) >= reached  # nothing saved is lost
        reached = newest(run)
    assert reached > 0
    steps = f"--config.steps={reached + 1}"
    assert f"resuming from step {reached}" in finish(run, *OFTEN, steps)
    finish(tmp_path / "whole", steps, "--config.eval_every=1000")
    assert_same_state(run, tmp_path / "whole")
    assert_tidy(run)
