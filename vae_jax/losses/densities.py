"""Densities of images given their reconstruction: -log p(target | recon) in nats, [B], normalised.

Images are [B, H, W, C] in [0, 1]; the Gaussian and the Laplace density are over all real numbers, the continuous
Bernoulli over [0, 1].
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.losses.pixel import BCE_EPSILON, l1, l2
from vae_jax.losses.reduction import per_example

SERIES_BELOW = 0.02  # where the closed form cancels; the series is then exact to 1e-12


def gaussian_nll(target: jax.Array, recon: jax.Array, variance: jax.Array | float) -> jax.Array:
    """For N(recon, variance I): sum (x - xhat)^2 / (2 variance) + D / 2 log(2 pi variance), [B]."""
    dimensions = math.prod(target.shape[1:])
    return l2(target, recon) / (2 * variance) + dimensions / 2 * jnp.log(2 * jnp.pi * variance)


def laplace_nll(target: jax.Array, recon: jax.Array, scale: jax.Array | float) -> jax.Array:
    """For independent Laplace densities around recon: sum |x - xhat| / scale + D log(2 scale), [B]."""
    return l1(target, recon) / scale + math.prod(target.shape[1:]) * jnp.log(2 * scale)


def continuous_bernoulli_nll(target: jax.Array, recon: jax.Array, ratio: float = 1.0) -> jax.Array:
    """For the density on [0, 1] that is proportional to exp(-ratio bce(target, recon)), [B].

    With eta = ratio logit(recon): sum log((exp(eta) - 1) / eta) - eta x. `recon` is clipped as in `bce`.
    Source: Loaiza-Ganem and Cunningham, "The continuous Bernoulli", NeurIPS 2019, equations 5 and 6 (ratio 1).
    """
    p = jnp.clip(recon, BCE_EPSILON, 1 - BCE_EPSILON)
    eta = ratio * (jnp.log(p) - jnp.log1p(-p))
    size = jnp.abs(eta)
    safe = jnp.maximum(size, SERIES_BELOW)
    closed = safe / 2 + jnp.log(-jnp.expm1(-safe) / safe)  # log(sinh(eta / 2) / (eta / 2)), which is even in eta
    series = jnp.square(eta) / 24 - jnp.square(jnp.square(eta)) / 2880
    return per_example(jnp.where(size < SERIES_BELOW, series, closed) + eta * (0.5 - target), "sum")
