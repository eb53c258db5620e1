"""Blur by the eight directional variations of the sharpness loss."""

import jax
import jax.numpy as jnp

from vae_jax.checks import equal_shapes
from vae_jax.losses.sharpness import mean_variation


def blur_percent(target: jax.Array, recon: jax.Array) -> jax.Array:
    """100 (Z1 - Z2) / Z1 with Z the mean over the image of the strongest variation (`losses/sharpness.py`), [B].

    Z1 belongs to the target, Z2 to the reconstruction: 0 is as sharp as the target, 100 has no edges left, negative
    is sharper. A target without edges (Z1 = 0) counts as 0. Images [B, H, W, C] in [0, 1].
    """
    equal_shapes("blur_percent", target, recon)
    z1, z2 = mean_variation(target), mean_variation(recon)
    return jnp.where(z1 > 0, 100 * (z1 - z2) / jnp.where(z1 > 0, z1, 1.0), 0.0)
