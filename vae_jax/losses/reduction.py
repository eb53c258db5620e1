"""The reduction from [B, ...] to [B] that every term names in its options, and sums of several arrays."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from vae_jax.errors import look_up

REDUCTIONS = {"sum": jnp.sum, "mean": jnp.mean}


def per_example(values: jax.Array, reduction: str) -> jax.Array:
    """[B, ...] -> [B] by `sum` or `mean` over all axes but the first."""
    reduce = look_up(REDUCTIONS, reduction, "reduction")
    return reduce(values.reshape(values.shape[0], -1), axis=1)


def total(arrays: Iterable[jax.Array]) -> jax.Array:
    """The sum of one or more arrays."""
    result = sum(arrays)
    assert not isinstance(result, int)
    return result
