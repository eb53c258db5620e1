"""What a command's environment may lack or ask for: a home folder, devices, 64 bits, a reader of its output."""

import os
import subprocess
import sys

import jax
import pytest
from helpers.checks import ROOT
from helpers.commands import assert_mistake

from vae_jax.errors import UserError
from vae_jax.runtime.output import LEFT
from vae_jax.runtime.sharding import check_devices
from vae_jax.weights.finding import find_weights, has_weights, weights_dir

# Runs a module as a user id that the system does not know, and HOME does not help
HOMELESS = "import os, runpy, sys; os.getuid = lambda: 12345; sys.argv = sys.argv[1:]; "
HOMELESS += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
WITHOUT = ("HOME", "VAE_JAX_WEIGHTS", "TFDS_DATA_DIR")


def command(*arguments: str, cwd, **changes: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=kept | {"PYTHONPATH": str(ROOT)} | changes, capture_output=True,
        text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config=dfc_celeba"], "no home folder: set HOME, or VAE_JAX_WEIGHTS to a folder"),
        (["--config=dfc_mnist:smoke", "--config.batch_size=600"], "fewer than a batch"),  # has found its weights
        (["--config=vae_mnist:smoke", "--config.data.name=mnist"], "data.dir: name a folder for tensorflow-datasets"),
    ],
)
def test_no_home(tmp_path, flags, words):
    """Weights that come with the package are found, and no folder called ~ is made."""
    assert_mistake(command("-c", HOMELESS, "vae_jax.main", "--workdir=run", *flags, cwd=tmp_path), words)
    assert not list(tmp_path.iterdir())


def test_where_weights_are_looked_for_without_a_home(monkeypatch, tmp_path):
    for name in WITHOUT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert find_weights("mnist_classifier").is_file() and not has_weights("vgg16")
    for look in (weights_dir, lambda: find_weights("vgg16")):
        with pytest.raises(UserError, match="no home folder: set HOME, or VAE_JAX_WEIGHTS"):
            look()
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    assert weights_dir() == tmp_path


def test_sixty_four_bits_are_refused(tmp_path):
    result = command(
        "-m", "vae_jax.main", "--config=vae_mnist:smoke", "--workdir=run", cwd=tmp_path, JAX_ENABLE_X64="1"
    )
    assert_mistake(result, "JAX_ENABLE_X64 is set", "Unset it")


def test_matplotlib_is_missed_before_the_training(tmp_path):
    code = "import runpy, sys; sys.modules['matplotlib'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    result = command("-c", code, "vae_jax.main", "--config=vae_mnist:smoke", "--workdir=run", cwd=tmp_path)
    assert_mistake(result, "matplotlib, which draws the reports, is not installed: pip install -r requirements.txt")
    assert not list(tmp_path.iterdir())


def test_a_platform_that_jax_does_not_know(tmp_path):
    flags = ["--config=vae_mnist:smoke", "--workdir=run"]
    result = command("-m", "vae_jax.main", *flags, cwd=tmp_path, JAX_PLATFORMS="nonsense")
    assert_mistake(result, "JAX_PLATFORMS=nonsense", "not in the list of known backends")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wanted", "found", "problem"),
    [
        ("cuda,cpu", "cpu", "no NVIDIA GPU"),
        ("cuda", AssertionError(), "no device of that kind"),
        ("rocm,cpu", RuntimeError("'rocm' is unknown (set JAX_PLATFORMS='')"), "cpu: 'rocm' is unknown. Install"),
        ("cuda,cpu", "gpu", None),
        ("cpu", "cpu", None),
        ("", "cpu", None),
    ],
)
def test_devices_that_are_asked_for(monkeypatch, wanted, found, problem):
    def default_backend():
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(jax, "default_backend", default_backend)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", wanted)
    try:
        if problem is None:
            check_devices()
        else:
            with pytest.raises(UserError, match=problem):
                check_devices()
    finally:
        jax.config.update("jax_platforms", before)


UNREAD = """
import sys
from vae_jax import cli
def main():
    print("first", flush=True)
    sys.stdin.read()  # until the reader has left
    for _ in range(3): print("more", flush=True)
    print("the end")
    open(FILE, "w").write("saved")
cli.run(main)
"""


@pytest.mark.parametrize("errors", [subprocess.PIPE, subprocess.STDOUT])
def test_a_reader_that_leaves(errors, tmp_path):
    """As head does: the command goes on to its end, and says so where it can."""
    code = UNREAD.replace("FILE", repr(str(tmp_path / "file")))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout.readline() == "first\n"
        process.stdout.close()
        process.stdin.close()
        told = process.stderr.read() if process.stderr else f"{LEFT}\n"
    assert (process.returncode, told) == (0, f"{LEFT}\n") and (tmp_path / "file").read_text() == "saved"


def test_the_first_lines_of_a_list():
    line = f"{sys.executable} -m vae_jax.configs | (sleep 3; exit); exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
