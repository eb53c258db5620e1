"""Two real processes as one run, on a CPU over gloo: the same numbers, and the same end whatever happens to either."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.processes import GRACE, assert_same_state, assert_tidy, finish, rest_of, start, wait_for

from vae_jax.runs.workdir import read_lines
from vae_jax.runtime.processes import LATE, agreed, check_same_everywhere, from_first, on_first_process
from vae_jax.runtime.sharding import make_mesh, place, replicated

STEPS = 24
# RMSprop divides each gradient by its own size: with a higher rate differences of the last bit grow beyond 1e-5
RUN = (f"--config.steps={STEPS}", "--config.eval_every=9", "--config.optimizers.vae.learning_rate=1e-5")
PAUSED = str(ROOT / "tests" / "helpers" / "paused.py")
MAIN = ("-m", "vae_jax.main")


def pair(workdir, *flags: str, other=(), programs=(MAIN, MAIN)) -> list[subprocess.Popen]:
    """Two processes as one run. Process 1 has a workdir of its own, which it must not touch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = (f"--coordinator=127.0.0.1:{free.getsockname()[1]}", "--num_processes=2", "--heartbeat=20")
    return [
        start(workdir, *RUN, *where, *flags, "--process_id=0", program=programs[0]),
        start(workdir.with_name("not made"), *RUN, *where, *flags, *other, "--process_id=1", program=programs[1]),
    ]


def finish_pair(workdir, *flags: str, codes=(0, 0), **options) -> list[str]:
    """Runs two processes to their end; returns their outputs."""
    processes = pair(workdir, *flags, **options)
    return [rest_of(process, code) for process, code in zip(processes, codes, strict=True)]


def curve(workdir) -> dict[int, dict[str, float]]:
    """Every scalar of the training except its speed, by step."""
    lines = [line for line in read_lines(workdir / "scalars.jsonl") if "bce" in line]
    return {line["step"]: {k: v for k, v in line.items() if k not in ("step", "images_per_second")} for line in lines}


def judged(workdir) -> list[dict[str, float]]:
    """Every evaluation."""
    return [line for line in read_lines(workdir / "scalars.jsonl") if "eval/mse" in line]


def assert_same_curve(found, expected) -> None:
    """Losses to 1e-5 (of 1 nat if they are smaller); norms of gradients and updates to 1e-4."""
    assert abs(expected[1]["bce"] - expected[STEPS]["bce"]) > 0.1
    assert list(found) == list(range(1, STEPS + 1))  # each line appears once
    for step, scalars in found.items():
        for name, value in scalars.items():
            rtol = 1e-4 if "norm" in name else 1e-5
            np.testing.assert_allclose(value, expected[step][name], rtol, 1e-5, err_msg=f"{name} at step {step}")


# ---- what one process can show -------------------------------------------------------------------------------------


def test_one_process_needs_no_others():
    mesh = make_mesh(4)

    def wish() -> bool:
        return True

    assert agreed(wish, mesh) is wish
    assert from_first(lambda target: target, "anything") == "anything"
    assert on_first_process(wish) is True
    check_same_everywhere({"seed": object()})
    tree = {"a": np.arange(6.0, dtype=np.float32), "b": np.int32(3)}
    placed = place(tree, replicated(mesh))
    assert all(leaf.sharding == replicated(mesh) for leaf in jax.tree.leaves(placed))
    jax.tree.map(np.testing.assert_array_equal, placed, tree)


def test_no_import_touches_a_device():
    """Processes must find each other first, and TensorFlow's GPUs must be hidden before it is imported."""
    code = """
import importlib, pkgutil, sys
import vae_jax
for module in pkgutil.walk_packages(vae_jax.__path__, "vae_jax."): importlib.import_module(module.name)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
assert not {"tensorflow", "tensorflow_datasets"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# ---- real processes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run of one process on one device."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    finish(workdir, *RUN)
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same run of two processes, undisturbed."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    finish_pair(workdir)
    return workdir


@pytest.mark.slow
def test_two_processes_train_as_one(one, two):
    """The same curve at the same global batch, one record of the run, and nothing written by process 1."""
    assert_same_curve(curve(two), curve(one))
    assert [evaluation["step"] for evaluation in judged(two)] == [9, 18, STEPS]
    for a, b in zip(judged(one), judged(two), strict=True):
        for name in ("eval/mse", "eval/psnr", "eval/kl"):
            np.testing.assert_allclose(b[name], a[name], 1e-5, 1e-5)
    (run,) = read_lines(two / "runs.jsonl")
    assert run["processes"] == 2 and run["devices"][0] == 2
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert [path.name for path in two.parent.iterdir()] == ["run"]
    assert_tidy(two)


@pytest.mark.slow
def test_a_state_split_over_processes(one, tmp_path):
    """It is saved whole, restored in parts, then by one process that does not split it: the same curve."""
    run = tmp_path / "run"
    finish_pair(run, "--config.shard_state=True", "--config.steps=9")
    assert "resuming from step 9" in finish_pair(run, "--config.shard_state=True", "--config.steps=15")[0]
    assert "resuming from step 15" in finish(run, *RUN)
    assert_same_curve(curve(run), curve(one))


@pytest.mark.slow
def test_a_stop_of_one_is_a_stop_of_both(two, tmp_path):
    """A signal to process 1 between two steps, later during an evaluation: both processes exit with 0 after the same
    step, LATE calls later, and the run ends bit-equal when both are started again."""
    run = tmp_path / "run"
    for phase, number, step in (("stepping", signal.SIGINT, 1 + LATE), ("judging", signal.SIGTERM, 9)):
        processes = pair(run, programs=(MAIN, (PAUSED, phase)))
        wait_for(processes[1], f"paused in {phase}")
        processes[1].send_signal(number)
        outputs = [rest_of(process, seconds=GRACE) for process in processes]
        assert f"stopped; step {step} is saved: run the same command to resume" in outputs[0]
        assert "evaluation:" not in outputs[0]
        assert "press Ctrl-C again to quit now" in outputs[1] and "press Ctrl-C again to quit now" not in outputs[0]
    assert f"resuming from step {step}" in finish_pair(run)[0]
    assert_same_state(run, two)
    assert curve(run) == curve(two) and judged(run) == judged(two)


@pytest.mark.slow
def test_a_second_signal_quits_at_once_and_the_other_process_ends(tmp_path):
    """While process 1 compiles for minutes, without waiting for that; process 0 ends by itself, with an error."""
    processes = pair(tmp_path / "run", programs=(MAIN, (PAUSED, "compiling")))
    wait_for(processes[1], "paused in compiling")
    processes[1].terminate()
    wait_for(processes[1], "press Ctrl-C again to quit now")
    processes[1].terminate()
    rest_of(processes[1], -signal.SIGTERM, 128 + signal.SIGTERM, seconds=GRACE)
    assert "all others will end" in rest_of(processes[0], 1, -signal.SIGABRT, seconds=GRACE)


@pytest.mark.slow
def test_a_silent_process(tmp_path):
    """As if its machine were lost: the other one ends by itself within twice --heartbeat=20 seconds."""
    processes = pair(tmp_path / "run", "--config.steps=100000")
    wait_for(processes[0], "step      12")
    processes[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    rest_of(processes[0], 1, -signal.SIGABRT, seconds=GRACE)
    assert time.monotonic() - began < 40
    processes[1].kill()
    rest_of(processes[1], -signal.SIGKILL)


@pytest.mark.slow
def test_one_killed_the_other_ends_and_both_are_started_again(two, tmp_path):
    """kill -9 of process 1, later of process 0: the other one ends by itself within a minute; the end is bit-equal."""
    run, output = tmp_path / "run", ""
    supervise = (str(ROOT / "launch" / "supervise.py"), "--processes=2", "--backoff=0.2", "--settle=60", "--")
    process = start(run, *RUN, "--heartbeat=20", program=(*supervise, sys.executable, "-u", *MAIN))
    for number, words in ((1, "step       5"), (0, "step      14")):
        output += wait_for(process, words)
        pids = re.findall(r"supervise: started (\d+), (\d+)", output)[-1]
        os.kill(int(pids[number]), signal.SIGKILL)
    output += rest_of(process)
    ends = re.findall(r"all exited within ([\d.]+) s of the first, with (\S+), (\S+)", output)
    assert len(ends) == 2 and max(float(seconds) for seconds, *_ in ends) < 60, output
    assert ends[0][2] == ends[1][1] == "-9" and "killing process" not in output, output
    steps = [record["from_step"] for record in read_lines(run / "runs.jsonl")]
    assert len(steps) == 3 and steps[0] == 0 and 3 <= steps[1] < steps[2]
    assert_same_state(run, two)
    assert curve(run) == curve(two) and judged(run) == judged(two)


@pytest.mark.slow
def test_all_processes_know_of_a_full_disk(tmp_path):
    """Both continue, and both end with the same error after three consecutive failed saves."""
    processes = pair(tmp_path / "run", "--config.steps=100000", "--config.checkpoint_every=2")
    wait_for(processes[0], "step       3")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(processes[0].pid, resource.RLIMIT_FSIZE, (1000, hard))
    outputs = [rest_of(process, 2) for process in processes]
    assert [output.count("warning: The checkpoint of step") for output in outputs] == [2, 0]
    errors = [[line for line in output.splitlines() if line.startswith("error: ")] for output in outputs]
    assert errors[0] == errors[1] and len(errors[0]) == 1, outputs
    assert all("3 consecutive saves failed: the run ends." in output for output in outputs)


@pytest.mark.slow
def test_other_devices_continue_with_the_same_batches(one, tmp_path):
    """8 devices, then 4, then 1, then two processes: the curve of one device."""
    run = tmp_path / "run"
    for devices in (8, 4, 1):  # one step on each
        process = start(run, *RUN, devices=devices, program=(PAUSED, "stepping"))
        wait_for(process, "paused in stepping")
        process.terminate()
        rest_of(process)
    finish_pair(run)
    runs = read_lines(run / "runs.jsonl")
    assert [(run["from_step"], run["devices"][0], run["processes"]) for run in runs] == [
        (0, 8, 1), (1, 4, 1), (2, 1, 1), (3, 2, 2),
    ]  # fmt: skip
    assert_same_curve(curve(run), curve(one))


@pytest.mark.slow
def test_all_processes_report_user_errors(one, tmp_path):
    """A different config in process 1, and a workdir of a different run: both exit with code 2 and say why."""
    outputs = finish_pair(tmp_path / "run", other=["--config.terms.kl.weight=2.5"], codes=(2, 2))
    assert "error: Process 1 was started differently from process 0; its own message says how." in outputs[0]
    assert "error: Process 1 was started differently from process 0:\n" in outputs[1]
    assert "  terms.kl.weight: 1.0 in process 0, 2.5 here\n" in outputs[1]
    assert not list(tmp_path.iterdir())
    for output in finish_pair(one, "--config.seed=3", codes=(2, 2)):
        assert f"error: The workdir {one} holds a different run:\n" in output
