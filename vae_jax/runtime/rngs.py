"""Randomness: one root key per run, folded by purpose and by step, so that resuming and replaying come free."""

import jax

PURPOSES = ("init", "step", "sample")


def root_key(seed: int, purpose: str) -> jax.Array:
    """The key from which everything random of one `purpose` follows."""
    return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
