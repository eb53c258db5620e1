"""Inverting features: total variation and gradient descent by hand, and the command on two trained generators."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import ROOT, value_and_gradient

from vae_jax import inversion
from vae_jax.backbones import BACKBONES, load_backbone
from vae_jax.cli import load_config
from vae_jax.config import read_config
from vae_jax.errors import UserError
from vae_jax.inference import load_model
from vae_jax.losses.total_variation import total_variation
from vae_jax.train import train


def test_total_variation_by_hand():
    """[0 3; 4 9] beside [0 0; 0 0]: 3 to the right and 4 below make 25."""
    image = np.zeros((2, 2, 2, 2), np.float32)
    image[0, :, :, 0] = [[0, 3], [4, 9]]
    np.testing.assert_allclose(total_variation(image), [25, 0])
    _, gradient = value_and_gradient(total_variation, image)
    np.testing.assert_allclose(gradient[0, :, :, 0], [[-14, 6], [8, 0]])


def test_total_variation_by_numpy(images):
    x = images[0].astype(np.float64)
    expected = sum(
        (x[:, i, j + 1] - x[:, i, j]) ** 2 + (x[:, i + 1, j] - x[:, i, j]) ** 2
        for i in range(x.shape[1] - 1) for j in range(x.shape[2] - 1)
    ).sum(axis=1)  # fmt: skip
    np.testing.assert_allclose(total_variation(images[0]), expected, rtol=1e-5)


def test_descent_matches_the_features(monkeypatch):
    """Means over 4x4 blocks: with a very weak prior they are matched; a strong prior flattens the images."""
    blocks = lambda x: x.reshape(-1, 2, 4, 3, 4, 1).mean(axis=(2, 4))  # noqa: E731
    target = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (2, 2, 3, 1)).astype(np.float32))
    monkeypatch.setattr(inversion, "TV_WEIGHT", 1e-4)
    made = inversion.descend(blocks, target, (8, 12, 1), jax.random.key(0), 300)
    assert made.min() >= 0 and made.max() <= 1
    np.testing.assert_allclose(blocks(made), target, atol=0.01)
    monkeypatch.setattr(inversion, "TV_WEIGHT", 1e4)
    flat = inversion.descend(blocks, target, (8, 12, 1), jax.random.key(0), 300)
    assert total_variation(flat).max() < 0.1 * total_variation(made).min()


def test_positions_and_colours():
    image = np.random.default_rng(0).uniform(size=(8, 12, 3)).astype(np.float32)
    six = inversion.positions_and_colours(image)
    assert six.shape == (6, 8, 12, 3)
    np.testing.assert_array_equal(six[0, 2:6, :6], six[1, 2:6, 3:9])
    np.testing.assert_array_equal(six[0, 2:6, :6], six[2, 2:6, 6:])
    assert np.all(six[0, :2] == 0.5) and np.all(six[0, :, 6:] == 0.5)
    np.testing.assert_allclose(six[1, 2:6, 3:9].mean(), image.mean(), atol=0.05)
    np.testing.assert_array_equal(six[3], image)
    np.testing.assert_array_equal(six[4], image[..., [2, 0, 1]])


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Inversions of conv5, with the full loss and with squared errors only."""
    folders = [str(tmp_path_factory.mktemp("runs") / loss) for loss in ("full", "se")]
    for workdir, variant in zip(folders, ("conv5", "conv5,se"), strict=True):
        config = load_config(f"{ROOT}/configs/deepsim_invert_alexnet.py:{variant},smoke")
        config.update(metrics=(), steps=2, steps_per_call=1, checkpoint_every=2, eval_every=2)
        train(config.lock(), workdir)
    return folders


def test_a_trained_inversion(workdirs):
    """It encodes like AlexNet, deterministically, and has no prior."""
    model = load_model(workdirs[1])
    x = np.random.default_rng(1).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    mean, logvar = model.encode(x)
    assert mean.shape == (2, *model.latent_shape) and np.all(np.isneginf(logvar))
    expected = BACKBONES["alexnet"].apply(load_backbone("alexnet", "random", ("pool5",)), x, ("pool5",))["pool5"]
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-5)
    assert model.reconstruct(x).shape == x.shape and float(model.reconstruct(x).max()) <= 1
    with pytest.raises(UserError, match="has no prior to sample from"):
        model.sample(jax.random.key(0), 2)
    assert not list(Path(workdirs[1], "pictures").glob("samples_*"))


def test_the_command(workdirs, tmp_path):
    record = inversion.invert(workdirs, tmp_path, count=10, steps=2)
    assert record == json.loads((tmp_path / "inversion.json").read_text())
    names = ["deepsim_invert_alexnet_conv5", "deepsim_invert_alexnet_conv5_se", "gradient descent"]
    assert [row["name"] for row in record["rows"]] == names and record["images"] == 10
    assert all(0 < row["image_error"] < 500 and 0 < row["feature_error"] < 500 for row in record["rows"])
    assert "| gradient descent |" in (tmp_path / "inversion.md").read_text()
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    for name in names[:2]:
        titles = ("encoded_again", "interpolation", "position_and_colour")
        assert {"reconstructions", *(f"{title}_{name}" for title in titles)} <= pictures
    assert (tmp_path / "inversion.html").read_text().count("<img") == len(pictures) == 7


def test_mistakes(workdirs, tmp_path):
    with pytest.raises(UserError, match="--images is 3; expected at least 10"):
        inversion.invert(workdirs, tmp_path, count=3)
    runs = [SimpleNamespace(config=read_config(workdir)) for workdir in workdirs]
    runs[1].config.unlock().inverted.tap = "relu5"
    with pytest.raises(
        UserError, match="invert different features: inverted.tap is 'pool5' in one, 'relu5' in the other"
    ):
        inversion._check_same_features(workdirs, runs)
    runs[1].config.system = "deepsim"
    with pytest.raises(UserError, match="is a deepsim, not an inversion"):
        inversion._check_same_features(workdirs, runs)
