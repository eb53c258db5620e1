"""Randomness: one root key per run, folded with purpose and step, so that a resumed run draws the same numbers."""

import jax
import jax.numpy as jnp

PURPOSES = ("init", "step", "sample", "evaluation")


def root_key(seed: int, purpose: str) -> jax.Array:
    """The key of everything random of one `purpose`; another one for each seed from 0 to 2^64 - 1.

    Below 2^32 it is that of `jax.random.key(seed)`, which drops a seed's upper 32 bits.
    """
    words = jnp.array([seed >> 32, seed & 0xFFFFFFFF], jnp.uint32)
    return jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), PURPOSES.index(purpose))
