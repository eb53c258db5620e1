"""Metrics that compare pixel by pixel."""

import jax
import jax.numpy as jnp

from vae_jax.losses.pixel import l2

MSE_FLOOR = 1e-10  # PSNR of equal images is 100 dB


def mse(target: jax.Array, recon: jax.Array) -> jax.Array:
    """Mean squared difference over H, W, C, [B]."""
    return l2(target, recon, reduction="mean")


def psnr(target: jax.Array, recon: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio -10 log10 MSE in dB for the range [0, 1], [B]; at most 100 dB."""
    return -10 * jnp.log10(jnp.maximum(mse(target, recon), MSE_FLOOR))
