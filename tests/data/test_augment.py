"""Augmentation: on the device, a pure function of the step's key, and never applied to what is judged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax import load_model
from vae_jax.config import check_config
from vae_jax.data import load_dataset
from vae_jax.data.augment import make_augmentation, random_windows
from vae_jax.data.contract import Dataset, central_window, in_memory
from vae_jax.data.images import fit_arrays
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, load_eval_dataset, summarise
from vae_jax.inference import load_workdir
from vae_jax.state import init_state
from vae_jax.systems.contract import System
from vae_jax.train import train
from vae_jax.train_step import make_train_step

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
SGD = {"player": optax.sgd(0.1)}


def reporting_system() -> System:
    """A player with nothing to learn, whose terms report the images that the system gets."""

    def terms(params, stats, frozen, batch, key, step):
        weights = jnp.arange(batch["image"].size, dtype=jnp.float32).reshape(batch["image"].shape)
        return {"size": jnp.float32(batch["image"].size), "sum": (weights * batch["image"]).sum()}, stats

    rules = {"player": {"size": 1.0, "sum": 1.0}}
    return System(
        rules=rules,
        init=lambda key, batch: ({"player": {"w": jnp.zeros(())}}, {}),
        terms=terms,
        evaluate=None,
    )


def test_the_step_sees_the_augmented_images():
    """The same as by hand, different at every step, and the same when a step is repeated."""

    def augment(key, images):
        assert images.dtype == jnp.float32
        return images[:, 1:5, 2:6] * jax.random.uniform(key, (images.shape[0], 1, 1, 1))

    system, batch, root = reporting_system(), {"image": jnp.asarray(IMAGES)}, jax.random.key(3)
    state = init_state(system, SGD, jax.random.key(0), batch, ema=False)
    step = jax.jit(make_train_step(system, SGD, augment=augment))
    seen = []
    for count in (0, 1, 0):
        _, scalars = step(state._replace(step=jnp.int32(count)), {}, batch, root)
        key = jax.random.split(jax.random.fold_in(root, count))[1]
        images = augment(key, jnp.asarray(IMAGES, jnp.float32) / 255)
        np.testing.assert_allclose(scalars["sum"], (np.arange(images.size) * np.ravel(images)).sum(), rtol=1e-4)
        assert scalars["size"] == 4 * 4 * 4 * 3
        seen.append(float(scalars["sum"]))
    assert seen[0] == seen[2] != seen[1]


def test_windows_are_slices_and_all_equally_likely():
    """On images that encode the place of every pixel: a row counts 10, a column 1, a channel 1000."""
    count = 12_000
    row, column, channel = np.meshgrid(np.arange(6), np.arange(5), np.arange(2), indexing="ij")
    image = (10 * row + column + 1000 * channel).astype(np.float32)
    images = jnp.broadcast_to(image, (count, *image.shape))
    windows = np.asarray(jax.jit(random_windows, static_argnums=2)(jax.random.key(1), images, 3))
    tops, lefts = np.divmod(windows[:, 0, 0, 0].astype(int), 10)
    for window, top, left in zip(windows[:200], tops, lefts, strict=False):
        np.testing.assert_array_equal(window, image[top : top + 3, left : left + 3])
    counts = np.histogram2d(tops, lefts, (np.arange(5), np.arange(4)))[0]
    assert counts.sum() == count
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(1000))  # 4 x 3 positions
    again = jax.jit(random_windows, static_argnums=2)(jax.random.key(1), images, 3)
    np.testing.assert_array_equal(windows, again)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_central_window(streamed):
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3), dtype=np.uint8)
    whole = in_memory(images, np.arange(3))
    dataset = Dataset(3, whole.image_shape, whole.read) if streamed else whole
    window = central_window(dataset, 6)
    assert window.image_shape == (6, 6, 3) and (window.arrays is None) == streamed
    read = window.read(np.array([2, 0]))
    np.testing.assert_array_equal(read["image"], images[[2, 0], 1:7, 3:9])
    np.testing.assert_array_equal(read["label"], [2, 0])


def test_random_crops_are_for_training_only(smoke, tmp_path):
    """A run trains on windows of 28 in 36 pixels; everything else about it has 28 pixels."""
    config = smoke("vae_mnist")
    config.data.random_crop = 36
    assert load_dataset(config, "train", augmented=True).image_shape == (36, 36, 1)
    assert load_dataset(config, "train").image_shape == load_dataset(config, "test").image_shape == (28, 28, 1)
    held = load_dataset(config, "test", augmented=True).arrays["image"]
    np.testing.assert_array_equal(load_dataset(config, "test").arrays["image"], held[:, 4:32, 4:32])
    assert fit_arrays(np.zeros((2, 50, 40, 1), np.uint8), config).shape == (2, 36, 36, 1)
    metrics = train(config.lock(), str(tmp_path / "run"))
    run = load_workdir(tmp_path / "run")
    assert run.experiment.batch["image"].shape == (8, 36, 36, 1)
    offline = summarise(evaluate_run(run, load_eval_dataset(run, None)))
    assert offline == {name: metrics[name] for name in offline}
    assert load_model(tmp_path / "run").reconstruct(np.zeros((1, 28, 28, 1))).shape == (1, 28, 28, 1)


def test_random_crops_that_are_too_small(smoke):
    config = smoke("vae_mnist")
    assert make_augmentation(config) is None
    config.data.random_crop = 27
    with pytest.raises(UserError, match=r"data.random_crop is 27, smaller than the windows of image_size \(28\)"):
        check_config(config)
