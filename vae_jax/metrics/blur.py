"""Blur by the eight directional variations of the sharpness loss, and the error that undoing a blur would find."""

import jax
import jax.numpy as jnp

from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.sharpness import mean_variation
from vae_jax.losses.wiener import gaussian_kernel, quadratic_form, wiener_gain

BLUR = gaussian_kernel(7, 1.0)  # the blur that `blur_error` asks about
C, EPSILON = 0.025, 1e-6


def blur_percent(target: jax.Array, recon: jax.Array) -> jax.Array:
    """100 (Z1 - Z2) / Z1 with Z the mean over the image of the strongest variation (`losses/sharpness.py`), [B].

    Z1 belongs to the target, Z2 to the reconstruction: 0 is as sharp as the target, 100 has no edges left, negative
    is sharper. A target without edges (Z1 = 0) counts as 0. Images [B, H, W, C] in [0, 1].
    """
    equal_shapes("blur_percent", target, recon)
    z1, z2 = mean_variation(target), mean_variation(recon)
    return jnp.where(z1 > 0, 100 * (z1 - z2) / jnp.where(z1 > 0, z1, 1.0), 0.0)


def blur_error(target: jax.Array, recon: jax.Array) -> jax.Array:
    """Mean squared difference of images after Wiener deconvolution of a Gaussian blur of sigma 1 pixel, [B].

    The residual is weighted by |w|^2 of 7x7 pixels of that Gaussian with C 0.025 (`losses/wiener.py`): most where the
    blur leaves a sixth of the amplitude, where it counts ten times; residuals without such frequencies count hardly.
    Images [B, H, W, C] in [0, 1], wrapping around at their edges; per pixel and channel.
    Source: the blur error of Bredell et al. 2023, with one kernel for all images.
    """
    equal_shapes("blur_error", target, recon)
    gain = wiener_gain(BLUR[None], target.shape[1:3], C=C, epsilon=EPSILON)
    residual = recon - target
    return quadratic_form(residual, jnp.broadcast_to(gain, (len(residual), *gain.shape[1:]))) / residual[0].size
