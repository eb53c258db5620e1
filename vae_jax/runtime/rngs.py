"""Randomness: one root key per run, folded with purpose and step, so that a resumed run draws the same numbers."""

import jax

PURPOSES = ("init", "step", "sample")


def root_key(seed: int, purpose: str) -> jax.Array:
    """The key of everything random of one `purpose`."""
    return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
