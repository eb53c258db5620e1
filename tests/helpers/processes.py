"""Real processes of vae_jax.main for the tests of faults: small runs that save often, started, watched and compared."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from helpers.checks import ROOT
from PIL import Image

from vae_jax.inference import load_workdir

GRACE = 120.0  # seconds until a stopped process is gone; 30 are allowed on an idle machine, and tests share theirs
PATIENCE = 400.0  # seconds for anything else
TINY = (
    "--config=configs/vae_mnist.py:smoke", "--config.image_size=16", "--config.steps_per_call=1", "--config.steps=8",
    "--config.log_every=1", "--config.checkpoint_every=3", "--config.eval_every=5", "--config.eval_batch_size=20",
)  # fmt: skip


def start(
    workdir: Path, *arguments: str, program: Sequence[str] = ("-m", "vae_jax.main"), devices: int = 1, **options
) -> subprocess.Popen:
    """A tiny run; both outputs are one pipe."""
    command = [sys.executable, "-u", *program, f"--workdir={workdir}", *TINY, *arguments]
    one_library = "--xla_cpu_use_onednn=false"  # for convolutions, whatever the number of steps
    split = f"--xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    environment = os.environ | {
        "XLA_FLAGS": f"{one_library} {split}".strip(),
        "PYTHONPATH": str(ROOT), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


@contextlib.contextmanager
def within(seconds: float, process: subprocess.Popen) -> Iterator[None]:
    """Kills a process that keeps its reader waiting for too long."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    yield
    timer.cancel()


def wait_for(process: subprocess.Popen, words: str) -> str:
    """Reads the output up to the line with these words, and returns it."""
    seen = ""
    with within(PATIENCE, process):
        for line in process.stdout:
            seen += line
            if words in line:
                return seen
    raise AssertionError(f"{words!r} never came:\n{seen}")


def rest_of(process: subprocess.Popen, *codes: int, seconds: float = PATIENCE) -> str:
    """Waits for the end of a process, which has one of these exit codes, or 0; returns the rest of its output."""
    with process, within(seconds, process):
        output = process.stdout.read()
    assert process.returncode in (codes or (0,)), output
    return output


def finish(workdir: Path, *arguments: str, code: int = 0, **options) -> str:
    """Starts a run and waits for its end; returns its output."""
    return rest_of(start(workdir, *arguments, **options), code)


def streamed_images(folder: Path, train: int = 60, test: int = 20) -> tuple[str, ...]:
    """Makes a folder of noise, all of it in one class folder; the flags of a run that streams it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 24), np.uint8)).save(folder / split / f"{i:03}.png")
    return (
        "--config.data.name=image_folder", f"--config.data.dir={folder}", "--config.data.memory_limit=0",
        "--config.data.train=train",
    )  # fmt: skip


def assert_same_state(workdir: Path, other: Path) -> None:
    """Every leaf of both newest states is bit-equal: parameters, optimisers, statistics, EMA, gates, step."""
    states = [load_workdir(path).state for path in (workdir, other)]
    leaves = [jax.tree_util.tree_leaves_with_path(state) for state in states]
    for (path, a), (_, b) in zip(*leaves, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=str(path))


def assert_tidy(workdir: Path) -> None:
    """The folder of checkpoints contains only finished ones."""
    folder = workdir / "checkpoints"
    names = {path.name for path in folder.iterdir()} - {"manifests"}
    assert names == {path.stem for path in (folder / "manifests").iterdir()}
    assert all(name.isdigit() for name in names)
    assert not list(workdir.rglob("*.tmp"))
