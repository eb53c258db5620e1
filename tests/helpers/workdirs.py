"""Workdirs made without training, and folders of images."""

import jax
from helpers.checks import ROOT
from PIL import Image

from vae_jax.cli import load_config
from vae_jax.config import image_shape, to_json
from vae_jax.experiment import make_experiment
from vae_jax.runs.checkpoint import Checkpoints


def make_workdir(workdir, name="vae_mnist", **changes):
    """A run of the smoke size, saved before its first step."""
    config = load_config(f"{ROOT}/configs/{name}.py:smoke")
    config.update(changes)
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(config))
    Checkpoints(workdir).save(jax.jit(make_experiment(config, image_shape(config), labelled=True).init)())
    return workdir


def unlabelled(tmp_path):
    """A workdir of a folder of two images without classes."""
    for split in ("train", "test"):
        (tmp_path / "flat" / split).mkdir(parents=True)
        for name in "01":
            Image.new("L", (28, 28)).save(tmp_path / "flat" / split / f"{name}.png")
    return make_workdir(tmp_path / "unlabelled", data={"name": "image_folder", "dir": str(tmp_path / "flat")})
