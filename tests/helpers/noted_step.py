"""A small train step of any system that records its gradients, with XLA's cost analysis."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers.checks import ROOT

from vae_jax.cli import load_config
from vae_jax.config import image_shape
from vae_jax.configs import common
from vae_jax.experiment import Experiment, make_experiment
from vae_jax.state import State, flatten
from vae_jax.train_step import make_train_step

KEY = jax.random.key(3)
BATCH = 16
CONFIGS = {
    "vae": "dfc_mnist",
    "vgg": "dfc_mnist",
    "vae_gan": "vaegan_mnist",
    "deepsim": "deepsim_ae_stl10",
    "kl_autoencoder": "kl_autoencoder",
}
RATE = 1e-6  # of the steps taken here


def config_of(system: str, **changes):
    """A config of digits with the article's networks; taps that are not in the order of their names weigh differently.

    vgg is vae with untrained VGG16 in place of the small classifier. deepsim has dropout, vae_gan running statistics
    and images in colour, kl_autoencoder gradients within its forward pass.
    """
    config = load_config(f"{ROOT}/configs/{CONFIGS[system]}.py:smoke")
    config.batch_size, config.image_size, config.latents, config.data.grey = BATCH, 28, 5, True
    config.encoder, config.decoder = {"name": "mnist"}, {"name": "mnist"}
    config.backbone.name, config.backbone.weights = "mnist_classifier", ""
    config.data.random_crop = 0
    if "kl" in config.terms:
        config.terms.kl.weight = 1e-4
    if system == "vae_gan":
        config.image_size, config.data.grey, config.discriminator.scale = 32, False, 1 / 16
    else:
        config.terms.feature = common.term(0.5, taps=("relu2", "relu1"), tap_weights=(2.0, 0.5))
    if system == "vgg":
        config.backbone.name, config.backbone.weights = "vgg16", "random"
        config.terms.feature = common.term(0.5, taps=("relu1_1", "relu2_1", "relu3_1"), reduction="mean")
    if system == "deepsim":
        config.discriminator = {"name": "deepsim", "scale": 1 / 8, "stride": 1}
    if system == "kl_autoencoder":
        config.discriminator = {"name": "patchgan", "width": 8, "layers": 1}
        del config.terms["lpips"]
    config.update(changes)
    return config.lock()


def filled(shapes):
    """A tree of numbers: kernels as large as initial ones, all else positive."""
    rng = np.random.default_rng(0)

    def fill(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.full(leaf.shape, 5, leaf.dtype)  # a step at which every term counts
        size = leaf.shape or (1,)
        values = rng.normal(0, np.prod(size[:-1]) ** -0.5, size) if len(size) > 1 else rng.uniform(0.5, 1.5, size)
        return jnp.asarray(values.reshape(leaf.shape), leaf.dtype)

    return jax.tree.map(fill, shapes)


class Step(NamedTuple):
    """A compiled train step whose optimisers record the gradients and take small steps."""

    experiment: Experiment
    state: State
    frozen: Any
    compiled: jax.stages.Compiled

    @property
    def flops(self) -> float:
        return self.compiled.cost_analysis()["flops"]

    @property
    def bytes(self) -> int:
        return self.compiled.memory_analysis().temp_size_in_bytes

    def __call__(self, *batches) -> list[dict[str, np.ndarray]]:
        """Scalars, gradients, running statistics and parameters after each step."""
        state, found = self.state, []
        for batch in batches:
            state, scalars = self.compiled(state, self.frozen, batch, KEY)
            found.append({name: np.asarray(leaf) for name, leaf in flatten((scalars, state)).items()})
        return found


def step_of(config, change: Callable = lambda experiment, frozen: experiment) -> Step:
    """The step of a config, whose experiment `change` (experiment, frozen) -> experiment can alter."""
    experiment = make_experiment(config, image_shape(config), labelled=False)
    frozen = experiment.system.frozen()
    experiment = change(experiment, frozen)
    optimizer = optax.chain(optax.trace(0.0), optax.scale(-RATE))  # the state of `trace` is the gradient
    optimizers = dict.fromkeys(experiment.optimizers, optimizer)
    state = filled(jax.eval_shape(experiment.init))
    state = state._replace(opt_state={player: optimizer.init(params) for player, params in state.params.items()})
    step = make_train_step(experiment.system, optimizers, 0.0, experiment.augment, config.remat, config.accumulate)
    key = jax.eval_shape(lambda: KEY)
    return Step(experiment, state, frozen, jax.jit(step).lower(state, frozen, experiment.batch, key).compile())


def images_of(size: int, channels: int = 1, count: int = BATCH) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, channels)).astype(np.uint8)


def assert_alike(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Every array is equal, to `tolerance` of its largest entry."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.isfinite(value).all()
        atol = tolerance * np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)
