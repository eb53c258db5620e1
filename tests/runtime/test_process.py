"""Several real processes as one run."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from helpers.checks import ROOT

from vae_jax.data.pipeline import batch_indices


@pytest.mark.slow
def test_two_processes_see_the_batches_of_one_and_agree():
    """Two real processes with two devices each, over gloo: each holds half of the same global batch; when one wants to
    stop, both do two calls later; process 1 gets bit by bit what only process 0 reads, and its errors too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "helpers" / "two_processes.py"), port, str(process)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for process in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    found, other = (json.loads(output.splitlines()[-1]) for output, _ in outputs)
    assert found == other
    expected = [batch_indices(1, step, 8, 50).tolist() for step in (6, 7)]
    for kind in ("in memory", "streamed"):
        assert found[kind] == {"devices": 4, "local": 2, "label": expected}
    assert found["calls"] == [5, 5]
    weights = np.array([-0.0, np.nan, 1e-45], np.float32)
    assert found["bits"] == [*weights.view(np.int32).tolist(), 7, 1]
    assert found["told"] == [{"step": 7, "name": None}, "a mistake", "a mistake"]
