"""PSNR and SSIM as super-resolution reports them: on RGB and on luma, without the pixels at the border.

`factor` pixels are left out at each edge, where an upscaler sees less of the image. Luma is Y of YCbCr, ITU-R BT.601
with its range 16..235 of 255 (as MATLAB's rgb2ycbcr), with 255 as the data range; nothing is rounded to 8 bits.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.ssim import structural_similarity
from vae_jax.metrics.pixel import psnr

Metric = Callable[[jax.Array, jax.Array], jax.Array]
BT601 = (65.481, 128.553, 24.966)  # of R, G, B in [0, 1]
BLACK = 16.0


def luma(images: jax.Array) -> jax.Array:
    """Y [B, H, W, 1], from 16 / 255 (black) to 235 / 255 (white), of images [B, H, W, 3 or 1] in [0, 1]."""
    weights = jnp.asarray(BT601, images.dtype)
    if images.shape[-1] == 1:
        weights = jnp.sum(weights, keepdims=True)
    return (BLACK + jnp.sum(weights.reshape(1, 1, 1, -1) * images, axis=-1, keepdims=True)) / 255


def without_border(images: jax.Array, border: int) -> jax.Array:
    """[B, H, W, C] -> [B, H - 2 border, W - 2 border, C]."""
    return images[:, border:-border, border:-border]


def upscaling_metric(metric: Metric, factor: int, on_luma: bool) -> Metric:
    """`metric` of images upscaled by `factor`, with the same signature, but blind to the border and maybe to colour."""

    @functools.wraps(metric)
    def judge(target: jax.Array, recon: jax.Array) -> jax.Array:
        equal_shapes(metric.__name__, target, recon)
        target, recon = (without_border(images, factor) for images in (target, recon))
        return metric(luma(target), luma(recon)) if on_luma else metric(target, recon)

    return judge


UPSCALING = {
    f"{name}_{colours}_x{factor}": upscaling_metric(metric, factor, colours == "y")
    for factor in (2, 4)
    for colours in ("rgb", "y")
    for name, metric in (("psnr", psnr), ("ssim", structural_similarity))
}
