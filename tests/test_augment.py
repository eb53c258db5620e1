"""Augmentation: on the device, a pure function of the step's key, and nothing that is judged ever sees it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vae_jax.state import init_state
from vae_jax.systems.contract import System
from vae_jax.train_step import make_train_step

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
SGD = {"player": optax.sgd(0.1)}


def tell_the_images() -> System:
    """A player without anything to learn, whose terms say what the system is given."""

    def terms(params, stats, frozen, batch, key, step):
        weights = jnp.arange(batch["image"].size, dtype=jnp.float32).reshape(batch["image"].shape)
        return {"size": jnp.float32(batch["image"].size), "sum": (weights * batch["image"]).sum()}, stats

    rules = {"player": {"size": 1.0, "sum": 1.0}}
    return System(rules, dict, lambda key, batch: ({"player": {"w": jnp.zeros(())}}, {}), terms, None)


def test_the_step_sees_the_augmented_images():
    """Against the same by hand, another one at every step, and the same one when a step is taken again."""

    def augment(key, images):
        assert images.dtype == jnp.float32
        return images[:, 1:5, 2:6] * jax.random.uniform(key, (images.shape[0], 1, 1, 1))

    system, batch, root = tell_the_images(), {"image": jnp.asarray(IMAGES)}, jax.random.key(3)
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
