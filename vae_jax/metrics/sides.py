"""Metrics of one image alone, as a pair: of the reconstruction, and of the target for reference."""

from collections.abc import Callable

import jax

from vae_jax.losses.checks import equal_shapes

Metric = Callable[[jax.Array, jax.Array], jax.Array]  # (target, recon) -> [B]


def both_sides(name: str, measure: Callable[[jax.Array], jax.Array]) -> dict[str, Metric]:
    """{name, 'target_' + name}: `measure`, images [B, H, W, C] -> [B], of the reconstructions and of the targets."""

    def of_recon(target: jax.Array, recon: jax.Array) -> jax.Array:
        equal_shapes(name, target, recon)
        return measure(recon)

    def of_target(target: jax.Array, recon: jax.Array) -> jax.Array:
        equal_shapes(f"target_{name}", target, recon)
        return measure(target)

    return {name: of_recon, f"target_{name}": of_target}
