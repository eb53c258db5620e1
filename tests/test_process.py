"""Real processes that are stopped: they save, say how to go on, exit with 0, and end bit-equal when resumed."""

import json
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

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
