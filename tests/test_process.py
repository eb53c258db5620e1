"""Real processes that are stopped: they save, say how to go on, exit with 0, and end bit-equal when resumed."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

from vae_jax.data.pipeline import batch_indices

ARGUMENTS = [
    "--config=configs/dfc_mnist.py:smoke", "--config.steps=60", "--config.log_every=2", "--config.checkpoint_every=60",
    "--config.eval_every=60",
]  # fmt: skip


def start(workdir) -> subprocess.Popen:
    command = [sys.executable, "-u", "-m", "vae_jax.main", f"--workdir={workdir}", *ARGUMENTS]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_resumes_bit_equal(number, tmp_path):
    whole = start(tmp_path / "whole")
    output, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, output

    parts = start(tmp_path / "parts")
    for line in parts.stdout:
        if line.startswith("step"):
            parts.send_signal(number)
            break
    rest, _ = parts.communicate(timeout=120)
    assert parts.returncode == 0, rest
    assert "the same command goes on from there" in rest

    again = start(tmp_path / "parts")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "going on from step" in output, output
    first, second = (json.loads((tmp_path / p / "eval" / "metrics.json").read_text()) for p in ("whole", "parts"))
    assert first == second and first["step"] == 60


@pytest.mark.slow
def test_two_processes_see_the_batches_of_one():
    """Two real processes with two devices each, over gloo: each holds half of the same global batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "two_processes.py"), port, str(process)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for process in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    found = json.loads(outputs[0][0].splitlines()[-1])
    expected = [batch_indices(1, step, 8, 50).tolist() for step in (6, 7)]
    for kind in ("in memory", "streamed"):
        assert found[kind] == {"devices": 4, "local": 2, "label": expected}
