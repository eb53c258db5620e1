"""Several real processes that work together."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

from vae_jax.data.pipeline import batch_indices


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
