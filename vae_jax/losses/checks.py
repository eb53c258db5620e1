"""Argument checks shared by public functions."""

import jax


def equal_shapes(name: str, target: jax.Array, recon: jax.Array) -> None:
    """ValueError unless both arrays have the same shape: [B] minus [B, 1] would silently be [B, B]."""
    if target.shape != recon.shape:
        raise ValueError(f"{name}: target {target.shape} and recon {recon.shape} must have equal shapes")
