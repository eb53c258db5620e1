"""Every system, stopped and resumed: the final state is bit-equal to that of an undisturbed run."""

import os
import signal
import time

import jax
import numpy as np
import pytest
from helpers.checks import ROOT

from vae_jax import evaluate, training
from vae_jax import train as train_module
from vae_jax.cli import load_config
from vae_jax.data import image_set
from vae_jax.inference import load_workdir
from vae_jax.runs.progress import Progress
from vae_jax.runs.workdir import read_lines
from vae_jax.systems import SYSTEMS
from vae_jax.train import train

NARROW = {"encoder": {"scale": 1 / 32}, "decoder": {"scale": 1 / 32}, "discriminator": {"scale": 1 / 32}}
RUNS = {  # config:variant -> its system, its number of players, and changes that make it small
    "dfc_mnist_best:smoke": ("vae", 1, {  # with a moving average, and a rate that is held
        "terms": {"kl": {"target": 20.0}},
        **{part: {"width": 4, "blocks": 1, "hidden": 8} for part in ("encoder", "decoder")},
    }),
    "classifier_mnist:smoke": ("classifier", 1, {}),
    "sr_vae_pets:pixel,smoke": ("super_resolution", 1, {  # with augmentation
        "image_size": 32, "data": {"random_crop": 36},
        **{part: {"width": 4, "blocks": 1} for part in ("encoder", "decoder")},
    }),
    "deepsim_invert_alexnet:conv5,se,smoke": ("inversion", 1, {}),
    "deepsim_ae_stl10:smoke": ("deepsim", 2, NARROW),  # with a stateful gate
    "blur_vae_mnist:smoke": ("blur_vae", 2, {"kernel": {"hidden": 8}}),
    "kl_autoencoder:smoke": ("kl_autoencoder", 2, {}),
    "vaegan_mnist:smoke": ("vae_gan", 3, NARROW),  # with running statistics
}  # fmt: skip
SLOW = ("deepsim_invert_alexnet", "deepsim_ae_stl10", "kl_autoencoder", "sr_vae_pets", "vaegan_mnist")
STOPS = {  # step -> the method of Progress called at this point, and its argument; an epoch has three steps
    1: ("add", 0),  # the first step, in the middle of an epoch
    3: ("add", 2),  # the last step of an epoch
    4: ("evaluation", None),  # right after an evaluation
}


def test_every_system_is_here():
    assert {system for system, _, _ in RUNS.values()} == set(SYSTEMS)


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Requests a stop, as Ctrl-C does, when this many steps are done."""
    name, expected = STOPS[step]
    method = getattr(Progress, name)

    def then_stop(self, *arguments):
        method(self, *arguments)
        if expected in (None, arguments[0]):
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Progress, name, then_stop)


@pytest.fixture
def compiled_once(monkeypatch):
    """All runs of a test share their compiled functions: only what they restore and save is tested."""
    for module, name in ((training, "make_train_call"), (evaluate, "make_evaluate"), (evaluate, "make_pictures")):
        monkeypatch.setattr(module, name, shared(getattr(module, name)))
    monkeypatch.setattr(training, "check_shapes", lambda *arguments: None)
    monkeypatch.setattr(train_module, "write_report", lambda *arguments: None)


def shared(make):
    made = []

    def make_once(*arguments, **options):
        if not made:
            made.append(make(*arguments, **options))
        return made[0]

    return make_once


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name.partition(":")[0] in SLOW else name for name in RUNS
])  # fmt: skip
def test_stopped_and_resumed_is_bit_equal(name, compiled_once, tmp_path, monkeypatch, capsys):
    file, _, variant = name.partition(":")
    config = load_config(f"{ROOT}/configs/{file}.py:{variant}")
    config.update(steps=6, steps_per_call=1, log_every=1, checkpoint_every=5, eval_every=4, eval_batch_size=8)
    config.data.update(train=f"{config.data.train}[:24]", eval=f"{config.data.eval}[:8]")
    system, players, changes = RUNS[name]
    config.update(changes)
    config.lock()
    assert config.system == system and len(config.optimizers) == players

    whole = train(config, str(tmp_path / "whole"))
    for step in STOPS:
        with monkeypatch.context() as patch:
            stop_at(step, patch)
            assert train(config, str(tmp_path / "parts")) is None
        assert f"stopped; step {step} is saved: run the same command to resume" in capsys.readouterr().out
    assert train(config, str(tmp_path / "parts")) == whole
    assert "resuming from step 4" in capsys.readouterr().out

    states = [load_workdir(tmp_path / part).state for part in ("whole", "parts")]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    starts = [record["from_step"] for record in read_lines(tmp_path / "parts" / "runs.jsonl")]
    assert starts == [0, 1, 3, 4]


def test_a_stop_while_reading_data(smoke, tmp_path, monkeypatch, capsys):
    """There is nothing to save, and the remaining files are not read."""
    for split in ("train", "test"):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for i in range(200):
            (tmp_path / "photos" / split / f"{i}.png").touch()
    read = []

    def read_image(path, convert):
        read.append(path)
        time.sleep(0.01)
        if len(read) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        return np.zeros((28, 28, 1), np.uint8)

    monkeypatch.setattr(image_set, "read_image", read_image)
    config = smoke("vae_mnist")
    config.data.update(name="image_folder", dir=str(tmp_path / "photos"))
    assert train(config.lock(), str(tmp_path / "run")) is None
    assert "run the same command to resume" in capsys.readouterr().out
    assert len(read) < 100 and not (tmp_path / "run").exists()
