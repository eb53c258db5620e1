"""Total variation, the natural image prior of Mahendran and Vedaldi 2015."""

import jax
import jax.numpy as jnp


def total_variation(images: jax.Array) -> jax.Array:
    """sum (x[i, j + 1] - x[i, j])^2 + (x[i + 1, j] - x[i, j])^2 of images [B, H, W, C] in [0, 1], [B].

    Over channels and all pixels with a neighbour to the right and below.
    Source: Mahendran and Vedaldi 2015, section 2, with their beta of 2, which favours spikes less than 1 does.
    """
    right = images[:, :-1, 1:] - images[:, :-1, :-1]
    below = images[:, 1:, :-1] - images[:, :-1, :-1]
    return jnp.sum(jnp.square(right) + jnp.square(below), axis=(1, 2, 3))
