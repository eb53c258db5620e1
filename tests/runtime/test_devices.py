"""CPU cores as devices, the libraries of XLA, and freed memory."""

import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys

import pytest
from helpers.checks import ROOT

from vae_jax.runtime.devices import ONEDNN, initialise, use_cores, uses_onednn


@pytest.mark.parametrize(
    "cores, batch_sizes, given, devices",
    [
        (2, [16, 64], "", 2),
        (4, [32], "--xla_dump_to=there", 4),
        (1, [16], "", None),
        (8, [64], "", None),  # too many to be devices
        (2, [16, 15], "", None),  # cannot be split
        (4, [16], "", None),  # four images each
        (2, [16], "--xla_force_host_platform_device_count=1", None),
    ],
)
def test_a_few_cores_become_devices(monkeypatch, cores, batch_sizes, given, devices):
    environment = {"XLA_FLAGS": given}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.12.0.1")
    use_cores(batch_sizes)
    assert environment == {"XLA_FLAGS": given}  # newer versions use the cores well by themselves
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.11.2")
    use_cores(batch_sizes)
    if devices is None:
        assert environment == {"XLA_FLAGS": given}
    else:
        *kept, count, eigen = environment["XLA_FLAGS"].split()
        assert kept == given.split() and count == f"--xla_force_host_platform_device_count={devices}"
        assert eigen == "--xla_cpu_multi_thread_eigen=false" and int(environment["PJRT_NPROC"]) >= 32


@pytest.mark.parametrize(
    ("version", "machine", "given", "flags"),
    [
        ("0.12.0.1", "x86_64", "", ONEDNN),
        ("0.12.0.1", "x86_64", "--xla_dump_to=/tmp", f"--xla_dump_to=/tmp {ONEDNN}"),
        ("0.12.0.1", "x86_64", "--xla_cpu_use_onednn=false", "--xla_cpu_use_onednn=false"),  # as the user wishes
        ("0.12.0.1", "aarch64", "", ""),
        ("0.10.2", "x86_64", "", ""),
    ],
)
def test_xla_may_use_onednn(monkeypatch, version, machine, given, flags):
    monkeypatch.setattr(os, "environ", {"XLA_FLAGS": given})
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    for _ in range(2):  # is the same when it has been done
        initialise()
        assert os.environ == {"XLA_FLAGS": flags}


@pytest.mark.parametrize(
    ("folder", "steps", "kept"),
    [
        ("", [], False),
        ("everywhere", [], True),  # a command that trains nothing
        ("everywhere", [500], True),
        ("everywhere", [700, 500], False),  # one is long: see docs/speed.md
        ("of the config", [500], True),
        ("of the config", [700], False),
        ("", [500], False),
    ],
)
def test_programs_are_kept_where_that_is_faster_than_onednn(monkeypatch, smoke, folder, steps, kept):
    environment = {"XLA_FLAGS": ONEDNN} | ({"JAX_COMPILATION_CACHE_DIR": "x"} if folder == "everywhere" else {})
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.12.0.1")
    trainings = [smoke("dfc_mnist") for _ in steps]
    for config, count in zip(trainings, steps, strict=True):
        config.update(steps=count, batch_size=32, compilation_cache="x" if folder == "of the config" else "")
    initialise(trainings)
    assert environment["XLA_FLAGS"] == ("" if kept else ONEDNN) and uses_onednn() != kept


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_kept():
    """A block of 64 MiB that is filled, freed and filled again is new to the process the first time only."""
    program = (
        "import resource, numpy as np\n"
        "from vae_jax.runtime.devices import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "fill = lambda: np.empty(2**26, np.uint8).fill(1)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults(); fill(); first = faults(); fill(); print(first - before, faults() - first)"
    )
    printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = map(int, printed.stdout.split())
    assert second < first / 10
