"""Real processes on disks that fill up, and on a read-only disk."""

import contextlib
import os
import resource
import subprocess

import pytest
from helpers.processes import assert_same_state, assert_tidy, finish, rest_of, start, wait_for

from vae_jax.errors import UserError
from vae_jax.runs.checkpoint import FAILED_SAVES
from vae_jax.runs.workdir import read_lines
from vae_jax.train import train

OFTEN = ("--config.checkpoint_every=2", "--config.eval_every=5")


@pytest.fixture
def disk(tmp_path):
    """A small separate disk, if mounting is permitted: a tmpfs of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(file) -> None:
    """Writes zeros until the disk is full."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(1 << 16))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of forty steps."""
    workdir = tmp_path_factory.mktemp("disk") / "whole"
    finish(workdir, "--config.steps=40", "--config.eval_every=1000")
    return workdir


def assert_ended(process, run) -> str:
    """The run continued after failed writes, warned once per save, and its older steps are intact."""
    output = rest_of(process, 2)
    saves = [line for line in output.splitlines() if "could not be written to" in line]
    assert len(saves) == FAILED_SAVES, output
    assert all(line.startswith("warning: The checkpoint of step") for line in saves[:-1])
    assert saves[-1].startswith("error: The checkpoint of step") and "3 consecutive saves failed" in output
    assert "Traceback" not in output
    newest = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    assert f"The newest good one is step {newest}." in output
    scalars = run / "scalars.jsonl"
    assert len(read_lines(scalars)) == len(scalars.read_text().splitlines())  # none is truncated
    return output


def assert_resumes(run, whole) -> None:
    """The run resumes from its newest step and ends the same; leftovers of failed saves are gone."""
    assert "resuming from step" in finish(run, *OFTEN, "--config.steps=40")
    assert_same_state(run, whole)
    assert_tidy(run)


@pytest.mark.slow
def test_a_disk_that_fills_up(disk, whole):
    run, ballast = disk / "run", disk / "ballast"
    process = start(run, *OFTEN, "--config.steps=100000")
    wait_for(process, "step       5")  # the checkpoint of step 4 has waited for that of step 2
    fill(ballast)
    assert_ended(process, run)
    ballast.unlink()
    assert_resumes(run, whole)


@pytest.mark.slow
def test_files_of_limited_size(whole, tmp_path):
    """The same without a separate disk: a limit on the size of files, which any user may set."""
    run = tmp_path / "run"
    process = start(run, *OFTEN, "--config.steps=100000")
    wait_for(process, "step       5")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    output = assert_ended(process, run)
    assert "warning: The scalars of step" in output and "warning: the evaluation of step 5 could not be" in output
    assert_resumes(run, whole)


def test_a_disk_that_is_full_from_the_start(disk, smoke, capsys):
    """No step is taken where the state cannot be saved."""
    ballast = disk / "ballast"
    fill(ballast)
    os.truncate(ballast, ballast.stat().st_size - (1 << 18))  # enough for the config
    with pytest.raises(UserError, match="checkpoint of step 0 could not be written to .*: No space left on device"):
        train(smoke("vae_mnist").lock(), str(disk / "run"))
    assert "compiling" not in capsys.readouterr().out
    assert not list((disk / "run" / "checkpoints").iterdir())


def test_a_workdir_that_cannot_be_written(disk, smoke):
    (disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(UserError, match="The workdir .*run cannot be written: .*Read-only file system"):
        train(smoke("vae_mnist").lock(), str(disk / "run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_that_is_not_ours(tmp_path, smoke):
    (tmp_path / "run").mkdir(mode=0o555)
    with pytest.raises(UserError, match="The workdir .*run cannot be written: .*Permission denied"):
        train(smoke("vae_mnist").lock(), str(tmp_path / "run"))
