"""The reduction from [B, ...] to [B] that every term names in its options."""

import jax
import jax.numpy as jnp

from vae_jax.errors import look_up

REDUCTIONS = {"sum": jnp.sum, "mean": jnp.mean}


def per_example(values: jax.Array, reduction: str) -> jax.Array:
    """[B, ...] -> [B] by `sum` or `mean` over all axes but the first."""
    reduce = look_up(REDUCTIONS, reduction, "reduction")
    return reduce(values.reshape(values.shape[0], -1), axis=1)
