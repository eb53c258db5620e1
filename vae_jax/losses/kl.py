"""The Kullback-Leibler term of a VAE."""

import jax
import jax.numpy as jnp

from vae_jax.losses.checks import equal_shapes


def kl(mean: jax.Array, logvar: jax.Array) -> jax.Array:
    """KL(N(mean, exp logvar) || N(0, I)) = -1/2 sum (1 + logvar - mean^2 - exp logvar), in nats.

    Args:
      mean: [B, ...] posterior means.
      logvar: [B, ...] posterior log-variances, natural logarithm.
    Returns:
      [B], summed over the latents, never averaged: a mean would shrink it by their number.
    Source: Kingma and Welling 2014, appendix B.
    """
    equal_shapes("kl", mean, logvar)
    terms = 1 + logvar - jnp.square(mean) - jnp.exp(logvar)
    return -0.5 * jnp.sum(terms.reshape(terms.shape[0], -1), axis=1)
