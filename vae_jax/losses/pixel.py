"""Losses that compare pixel by pixel. Images are [B, H, W, C] in [0, 1]."""

import jax
import jax.numpy as jnp

from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.reduction import per_example

BCE_EPSILON = 1e-7


def bce(target: jax.Array, recon: jax.Array, *, reduction: str = "sum") -> jax.Array:
    """Binary cross-entropy -x log p - (1 - x) log(1 - p) in nats, [B].

    `recon` is clipped to [1e-7, 1 - 1e-7], as Keras does, so that value and gradient stay finite at 0 and 1.
    Source: the DFC-VAE article's plain VAE (Bernoulli decoder of Kingma and Welling 2014, appendix C.1).
    """
    equal_shapes("bce", target, recon)
    p = jnp.clip(recon, BCE_EPSILON, 1 - BCE_EPSILON)
    return per_example(-target * jnp.log(p) - (1 - target) * jnp.log1p(-p), reduction)


def absolute(x: jax.Array) -> jax.Array:
    """|x|, whose gradient at 0 is 0, as PyTorch's and TensorFlow's; that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def l1(target: jax.Array, recon: jax.Array, *, reduction: str = "sum") -> jax.Array:
    """Absolute differences |x - xhat|, [B]; no gradient where pixels are equal."""
    equal_shapes("l1", target, recon)
    return per_example(absolute(target - recon), reduction)


def l2(target: jax.Array, recon: jax.Array, *, reduction: str = "sum") -> jax.Array:
    """Squared differences (x - xhat)^2, [B]."""
    equal_shapes("l2", target, recon)
    return per_example(jnp.square(target - recon), reduction)
