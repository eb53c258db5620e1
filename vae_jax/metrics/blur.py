"""Blur by the eight directional variations of the sharpness loss, and the error after undoing a blur."""

import jax
import jax.numpy as jnp

from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.sharpness import mean_variation
from vae_jax.losses.wiener import gaussian_kernel, quadratic_form, wiener_gain

BLUR = gaussian_kernel(7, 1.0)  # the blur that `blur_error` undoes
C, EPSILON = 0.025, 1e-6


def blur_percent(target: jax.Array, recon: jax.Array) -> jax.Array:
    """100 (Z1 - Z2) / Z1 with Z the mean over the image of the strongest variation (`losses/sharpness.py`), [B].

    Z1 is the target's, Z2 the reconstruction's: 0 is as sharp as the target, 100 has no edges left, negative is
    sharper. The value is 0 for a target without edges (Z1 = 0). Images [B, H, W, C] in [0, 1]. Of many images it is the
    ratio of the means of Z, `metrics.mean_over_images`: one nearly flat image would rule the mean of the ratios.
    """
    equal_shapes("blur_percent", target, recon)
    z1, z2 = mean_variation(target), mean_variation(recon)
    return jnp.where(z1 > 0, 100 * (z1 - z2) / jnp.where(z1 > 0, z1, 1.0), 0.0)


def blur_error(target: jax.Array, recon: jax.Array) -> jax.Array:
    """Mean squared difference of images after Wiener deconvolution of a Gaussian blur of sigma 1 pixel, [B].

    The residual is weighted by |w|^2 of that Gaussian on 7x7 pixels with C = 0.025 (`losses/wiener.py`): most, ten
    times, where the blur leaves a sixth of the amplitude; residuals without such frequencies hardly count.
    Images [B, H, W, C] in [0, 1], wrapping around at their edges; per pixel and channel.
    Source: the blur error of Bredell et al. 2023, with one kernel for all images.
    """
    equal_shapes("blur_error", target, recon)
    height, width = target.shape[1:3]
    gain = wiener_gain(BLUR[None], (height, width), C=C, epsilon=EPSILON)
    residual = recon - target
    return quadratic_form(residual, jnp.broadcast_to(gain, (len(residual), *gain.shape[1:]))) / residual[0].size
