"""The package as `pip install` leaves it: built as a wheel, tried from a folder with nothing of the repository near."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.checks import ROOT

import vae_jax
from vae_jax import configs

COMMANDS = (
    "vae_jax.main", "vae_jax.evaluate", "vae_jax.compare", "vae_jax.latents", "vae_jax.classify", "vae_jax.inversion",
    "vae_jax.upscale", "vae_jax.scales", "vae_jax.shards", "vae_jax.bench", "vae_jax.configs",
    "pretrained_converters.convert",
)  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of packages that the wheel unpacks to."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if files.returncode:
        pytest.skip("the files of the repository are known to git only")
    for name in filter(None, files.stdout.split("\n")):
        if (ROOT / name).is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(os.readlink(ROOT / name))
        elif (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and re.search("No matching distribution|Could not find a version|connection", built.stderr):
        pytest.skip("the package index, which has the build's setuptools, cannot be reached")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"vae_jax-{vae_jax.__version__}-py3-none-any")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "packages")
    return folder / "packages"


def run(installed: Path, folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(installed)} | changes
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_what_is_in_it(installed):
    """The package, its configs, the converters and the weights of the small classifier; neither tests nor docs."""
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {
        "vae_jax", "pretrained_converters"
    }  # fmt: skip
    assert {path.stem for path in (installed / "vae_jax" / "configs").glob("*.py")} >= set(configs.names())
    assert (installed / "vae_jax" / "weights" / "shipped" / "mnist_classifier.safetensors").is_file()
    (metadata,) = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    for extra in ("cuda12", "tpu", "parquet", "hugging-face", "test"):
        assert f"Provides-Extra: {extra}" in text
    assert "License-Expression: Apache-2.0" in text and "Requires-Dist: flax" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, installed, tmp_path):
    """What it does, how it is called, and its flags, none of which is without a description."""
    told = run(installed, tmp_path, "-m", command, "--help")
    assert told.returncode in (0, 1) and not told.stderr, told.stderr
    assert f"python -m {command}" in told.stdout
    assert "Traceback" not in told.stdout


def test_a_newcomer_far_from_the_repository(installed, tmp_path):
    """Trains a config of their own that builds on a published one, evaluates it, and loads the model."""
    (tmp_path / "configs").mkdir()  # a folder of one's own with the name of ours
    (tmp_path / "configs" / "mine.py").write_text(
        "from vae_jax.configs import vae_mnist\n\n\ndef get_config(arg=''):\n"
        "    config = vae_mnist.get_config('smoke')\n    config.name = 'mine'\n    return config\n"
    )
    trained = run(installed, tmp_path, "-m", "vae_jax.main", "--config=configs/mine.py", "--workdir=runs/mine")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    judged = run(installed, tmp_path, "-m", "vae_jax.evaluate", "--workdir=runs/mine", "--metrics=psnr")
    assert judged.returncode == 0 and "psnr" in judged.stdout, judged.stderr
    program = (
        "import numpy, vae_jax; model = vae_jax.load_model('runs/mine'); "
        "print(vae_jax.__version__, vae_jax.__file__, model.reconstruct(numpy.zeros((2, 28, 28, 1))).shape)"
    )
    loaded = run(installed, tmp_path, "-c", program)
    assert loaded.stdout.split(" ", 2) == [
        vae_jax.__version__, str(installed / "vae_jax" / "__init__.py"), "(2, 28, 28, 1)\n"
    ]  # fmt: skip
    mistaken = run(installed, tmp_path, "-m", "vae_jax.main", "--config=dfc_mnits", "--workdir=runs/x")
    assert mistaken.returncode == 2 and "Did you mean 'dfc_mnist'?" in mistaken.stderr
    measured = run(installed, tmp_path, "-m", "vae_jax.bench", "--config=dfc_mnist:smoke", "--part=input")
    assert measured.returncode == 0 and json.loads(measured.stdout)["config"] == "dfc_mnist", measured.stderr


def test_the_list_of_configs(installed, tmp_path):
    listed = run(installed, tmp_path, "-m", "vae_jax.configs")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == configs.names()
    cut = f'"{sys.executable}" -m vae_jax.configs | head -n 1'
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONUNBUFFERED": "1"}
    told = subprocess.run(["bash", "-c", cut], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert len(told.stdout.splitlines()) == 1 and not told.stderr
