"""One step of ours by plain gradient descent at rate 1, so that the update is the gradient, with its noise of z."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import optax
from helpers.checks import ROOT

from vae_jax.cli import load_config
from vae_jax.state import State, flatten, init_state
from vae_jax.systems import make_system
from vae_jax.train_step import make_train_step

KEY = jax.random.key(3)
SHAPES = {"dfc_mnist": (16, 20, 1), "dfc_celeba": (16, 16, 3), "vae_gan": (40, 48, 3)}
CONFIGS = {"dfc_mnist": "dfc_mnist", "dfc_celeba": "dfc_celeba", "vae_gan": "vaegan_celeba"}
BATCH, LATENTS, SCALE = 5, 6, 0.03


class Ours(NamedTuple):
    """One step of ours: images [B, H, W, C], the noise of its z, the state before and after it, the terms."""

    images: np.ndarray
    noise: np.ndarray
    frozen: dict
    before: State
    after: State
    scalars: dict


def config_of(system: str):
    """The published config with few latents and, for the VAE-GAN, narrow networks; no player rests."""
    config = load_config(f"{ROOT}/configs/{CONFIGS[system]}.py")
    config.latents = LATENTS
    if system == "vae_gan":
        config.gate.margin = 0.0
        for network in (config.encoder, config.decoder, config.discriminator):
            network.scale = SCALE
    else:
        config.image_size = SHAPES[system][0]
    if system == "dfc_celeba":
        config.backbone.weights = "random"
    return config


@functools.cache
def our_step(name: str, dtype: str = "float64") -> Ours:
    config, shape = config_of(name), SHAPES[name]
    system = make_system(config, shape)
    optimizers = dict.fromkeys(system.rules, optax.sgd(1.0))
    images = np.random.default_rng(0).uniform(size=(BATCH, *shape)).astype(dtype)
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), {"image": images}, ema=False))()
    with jax.enable_x64(dtype == "float64"):
        cast = lambda x: x.astype(dtype) if x.dtype == "float32" else x  # noqa: E731
        before, frozen = jax.tree.map(cast, jax.device_get((state, system.frozen())))
        key = jax.random.fold_in(KEY, 0)
        keys = jax.random.split(key) if name == "vae_gan" else [key]
        noise = np.stack([jax.random.normal(k, (BATCH, LATENTS), dtype) for k in keys])
        step = jax.jit(make_train_step(system, optimizers))
        after, scalars = jax.device_get(step(before, frozen, {"image": images}, KEY))
    assert float(scalars["finite"]) == 1
    return Ours(images, noise if name == "vae_gan" else noise[0], frozen, before, after, scalars)


def our_networks(name: str, state: State, frozen) -> dict[str, dict[str, np.ndarray]]:
    """{network: leaves by path}, with running statistics, and of frozen networks what their taps need."""
    params = state.params if name == "vae_gan" else state.params["vae"]
    networks = {network: flatten(tree) for network, tree in params.items()}
    for network, tree in state.stats.items():
        networks[network] |= flatten(tree["batch_stats"])
    if "backbone" in frozen:
        used = ("conv1/", "conv2/") if name == "dfc_mnist" else ("conv",)
        networks["backbone"] = {k: v for k, v in flatten(frozen["backbone"]).items() if k.startswith(used)}
    return networks
