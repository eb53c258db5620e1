"""Sharpness losses: reconstructions are compared by the differences between each pixel and its eight neighbours.

Source: the document that proposes them, *Introducing sharpness measure in VAE and VAE-GAN*, after the blur measure of
*A new method for full reference image blur measure*. Its fixed 3x3 filters have -1 at the centre and +1 at one
neighbour and are applied without padding, so that only inner pixels count.
"""

import jax
import jax.numpy as jnp

from vae_jax.errors import look_up
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.reduction import per_example, total


def _neighbours(images: jax.Array) -> list[jax.Array]:
    """The eight neighbours of every inner pixel: eight arrays [B, H - 2, W - 2, C]."""
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        raise ValueError(f"eight neighbours of a pixel need images of at least 3x3 pixels, not {images.shape}")
    return [
        images[:, 1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]


def strongest_variation(images: jax.Array) -> jax.Array:
    """m: the largest of the eight signed differences neighbour - centre, [B, H - 2, W - 2, C].

    Equal to the maximum over the eight filters, which all subtract the same centre.
    """
    return jnp.max(jnp.stack(_neighbours(images)), axis=0) - images[:, 1:-1, 1:-1]


def mean_variation(images: jax.Array) -> jax.Array:
    """Z: the mean of `strongest_variation` over pixels and channels, [B]."""
    return jnp.mean(strongest_variation(images), axis=(1, 2, 3))


def squared_variation(images: jax.Array) -> jax.Array:
    """The mean of the squares of the eight differences, [B, H - 2, W - 2, C]."""
    centre = images[:, 1:-1, 1:-1]
    return total(jnp.square(neighbour - centre) for neighbour in _neighbours(images)) / 8


VARIATIONS = {"mean": mean_variation, "maximum": strongest_variation, "square": squared_variation}


def sharpness(target: jax.Array, recon: jax.Array, *, variation: str = "maximum", reduction: str = "sum") -> jax.Array:
    """Squared differences of the variations of target and recon, [B].

    Args:
      target, recon: images [B, H, W, C] in [0, 1], at least 3x3 pixels; channels count separately.
      variation: `maximum`, the document's loss (b): (m1 - m2)^2 at every inner pixel. `mean`, its (a): (Z1 - Z2)^2.
        `square`, its (c): `squared_variation` instead of m. Its (d) is (b) from a later step: the term's `start`.
      reduction: over pixels and channels, `sum` (the document's formula) or `mean` (its caption); (a) has one value.
    """
    equal_shapes("sharpness", target, recon)
    measure = look_up(VARIATIONS, variation, "terms.sharpness.variation")
    return per_example(jnp.square(measure(target) - measure(recon)), reduction)
