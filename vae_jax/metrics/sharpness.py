"""Blur by the eight directional variations of the sharpness loss."""

import jax
import jax.numpy as jnp

from vae_jax.checks import equal_shapes


def strongest_variation(images: jax.Array) -> jax.Array:
    """Largest of the eight signed differences neighbour - centre at every inner pixel: [B, H - 2, W - 2, C].

    Equal to the maximum over eight fixed 3x3 filters with -1 at the centre and +1 at one neighbour, valid padding.
    """
    height, width = images.shape[1:3]
    neighbours = [
        images[:, 1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    return jnp.max(jnp.stack(neighbours), axis=0) - images[:, 1:-1, 1:-1]


def blur_percent(target: jax.Array, recon: jax.Array) -> jax.Array:
    """100 (Z1 - Z2) / Z1 with Z the mean of `strongest_variation` over pixels and channels, [B].

    Z1 belongs to the target, Z2 to the reconstruction: 0 is as sharp as the target, 100 has no edges left, negative
    is sharper. A target without edges (Z1 = 0) counts as 0. Images [B, H, W, C] in [0, 1].
    """
    equal_shapes("blur_percent", target, recon)
    z1, z2 = (jnp.mean(strongest_variation(images), axis=(1, 2, 3)) for images in (target, recon))
    return jnp.where(z1 > 0, 100 * (z1 - z2) / jnp.where(z1 > 0, z1, 1.0), 0.0)
