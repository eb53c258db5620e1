"""Real processes, stopped by a signal in every phase: exit code 0 within the grace time, and exact resumption."""

import json
import re
import signal
import time

import pytest
from helpers.checks import ROOT
from helpers.processes import (
    GRACE,
    assert_same_state,
    assert_tidy,
    finish,
    rest_of,
    start,
    streamed_images,
    wait_for,
)  # fmt: skip

from vae_jax.runs.workdir import read_lines

pytestmark = pytest.mark.slow
PAUSED = str(ROOT / "tests" / "helpers" / "paused.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of eight steps."""
    workdir = tmp_path_factory.mktemp("stops") / "whole"
    finish(workdir)
    return workdir


def stop_in(phase: str, number: int, workdir) -> str:
    """Stops a process in a phase; returns its output after that."""
    process = start(workdir, program=(PAUSED, phase))
    wait_for(process, f"paused in {phase}")
    process.send_signal(number)
    output = rest_of(process, seconds=GRACE)
    assert "run the same command to resume" in output
    return output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_every_phase(number, whole, tmp_path):
    """One run, stopped five times: each time its last finished step is saved, and the end is bit-equal."""
    run = tmp_path / "run"
    output = stop_in("compiling", number, run)
    assert "compiled in" not in output  # it did not wait for the compilation, which takes minutes
    assert not (run / "checkpoints").exists()  # there is nothing to save
    assert "stopped; step 1 is saved" in stop_in("stepping", number, run)
    assert "stopped; step 4 is saved" in stop_in("saving", number, run)  # the step after the one that was being saved
    output = stop_in("judging", number, run)  # due after step 5
    assert "stopped; step 5 is saved" in output and "evaluation:" not in output
    output = stop_in("drawing", number, run)  # of the same evaluation, repeated
    assert "stopped; step 5 is saved" in output and "evaluation:" in output
    assert "resuming from step 5" in finish(run)
    assert_same_state(run, whole)
    assert_tidy(run)
    metrics = [json.loads((path / "eval" / "metrics.json").read_text()) for path in (run, whole)]
    assert metrics[0] == metrics[1] and metrics[0]["step"] == 8
    judged = [[r for r in read_lines(path / "scalars.jsonl") if "eval/mse" in r] for path in (run, whole)]
    assert judged[0] == judged[1] and [record["step"] for record in judged[0]] == [5, 8]


@pytest.mark.parametrize("phase, number", [
    ("computing", signal.SIGTERM),  # the main thread is outside Python and handles no signals
    ("sleeping", signal.SIGTERM),
    ("sleeping", signal.SIGINT),
])  # fmt: skip
def test_a_second_signal_quits_at_once(phase, number, tmp_path):
    """Ends by that signal, or with its exit code if the main thread cannot handle it."""
    process = start(tmp_path / "run", program=(PAUSED, phase))
    wait_for(process, f"paused in {phase}")
    process.send_signal(number)
    wait_for(process, "press Ctrl-C again to quit now")
    process.send_signal(number)
    assert "Traceback" not in rest_of(process, -number, 128 + number, seconds=GRACE)


def test_stopped_while_a_disk_stalls(tmp_path):
    """What was read ahead is trained on, and the wait for the next one ends at the signal."""
    run, data = tmp_path / "run", streamed_images(tmp_path / "data")
    process = start(run, *data, program=(PAUSED, "reading"))
    wait_for(process, "paused in reading")
    time.sleep(5)
    process.send_signal(signal.SIGTERM)
    output = rest_of(process, seconds=GRACE)
    saved = re.search(r"stopped; step (\d) is saved: run the same command to resume", output)
    assert 1 <= int(saved[1]) < 8, output
    assert f"resuming from step {saved[1]}" in finish(run, *data)
    finish(tmp_path / "undisturbed", *data)
    assert_same_state(run, tmp_path / "undisturbed")


def test_a_stop_in_the_last_evaluation(whole, tmp_path):
    """All steps are done and saved; the same command repeats the evaluation."""
    run = tmp_path / "run"
    options = ("--config.eval_every=8",)
    process = start(run, *options, program=(PAUSED, "judging"))
    wait_for(process, "paused in judging")
    refused = finish(run, *options, code=2)  # no other process can use the workdir meanwhile
    assert f"in use by another run: process {process.pid} on " in refused
    process.send_signal(signal.SIGTERM)
    output = rest_of(process, seconds=GRACE)
    assert "run the same command to resume" in output and "evaluation:" not in output
    finish(run, *options)
    assert_same_state(run, whole)
    assert (run / "report.html").is_file()
