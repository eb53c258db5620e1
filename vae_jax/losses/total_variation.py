"""Total variation, the natural image prior of Mahendran and Vedaldi 2015."""

import jax
import jax.numpy as jnp

SMALLEST = 1e-12  # under the root, so that its gradient stays finite where neighbours are equal


def total_variation(images: jax.Array, *, beta: float = 2.0) -> jax.Array:
    """sum ((x[i, j + 1] - x[i, j])^2 + (x[i + 1, j] - x[i, j])^2)^(beta / 2) of images [B, H, W, C] in [0, 1], [B].

    Over channels and all pixels with a neighbour to the right and below.
    Source: Mahendran and Vedaldi 2015, section 2; with beta 2 spikes are less favoured than with 1.
    """
    right = images[:, :-1, 1:] - images[:, :-1, :-1]
    below = images[:, 1:, :-1] - images[:, :-1, :-1]
    squares = jnp.square(right) + jnp.square(below)
    values = squares if beta == 2 else jnp.power(squares + SMALLEST, beta / 2)
    return jnp.sum(values, axis=(1, 2, 3))
