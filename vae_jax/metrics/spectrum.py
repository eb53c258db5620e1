"""How much of an image's power a reconstruction has, by bands of spatial frequency.

The power of an image at a frequency is |F|^2 / (H W)^2, with F the discrete Fourier transform of each channel minus its
mean, without a window, averaged over the channels: all frequencies together have the variance of the pixels. The bands
are thirds of the range up to Nyquist's frequency, by radius in cycles per pixel: low (0, 1/6], middle (1/6, 1/3], high
above 1/3, with the corners beyond 1/2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.losses.checks import equal_shapes
from vae_jax.metrics.sides import Metric, both_sides

BANDS = {"low": (0.0, 1 / 6), "middle": (1 / 6, 1 / 3), "high": (1 / 3, np.inf)}  # above the first, up to the second
ROUNDING = 1e-9  # of a radius


def radius(height: int, width: int) -> np.ndarray:
    """Cycles per pixel of each frequency of the discrete Fourier transform, [H, W]."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])


def power(images: jax.Array) -> jax.Array:
    """The power at each frequency, [B, H, W], of images [B, H, W, C]."""
    centred = images - jnp.mean(images, axis=(1, 2), keepdims=True)
    squared = jnp.square(jnp.abs(jnp.fft.fft2(centred, axes=(1, 2))))
    return jnp.mean(squared, axis=3) / float(images.shape[1] * images.shape[2]) ** 2  # may be more than 2^31


def band_power(images: jax.Array, band: str) -> jax.Array:
    """The power of images [B, H, W, C] in a band, [B]."""
    (low, high), r = BANDS[band], radius(*images.shape[1:3])
    inside = (r > low + ROUNDING) & (r <= high + ROUNDING)
    return jnp.sum(power(images) * inside[None], axis=(1, 2))


def ring_frequencies(height: int, width: int) -> np.ndarray:
    """The frequencies at the middle of `radial_power`'s rings, cycles per pixel, [min(H, W) // 2]."""
    side = min(height, width)
    return np.arange(1, side // 2 + 1) / side


def radial_power(images: jax.Array) -> jax.Array:
    """The power of images [B, H, W, C] in rings of spatial frequency, [B, min(H, W) // 2]: the n-th has the radii that
    are nearest to n / min(H, W) cycles per pixel. The mean and the corners beyond Nyquist's frequency are in none."""
    side = min(images.shape[1:3])
    rings = np.rint(radius(*images.shape[1:3]) * side)[..., None] == np.arange(1, side // 2 + 1)
    return jnp.einsum("bhw,hwn->bn", power(images), rings.astype(np.float32))


def _ratio(band: str) -> Metric:
    """The reconstruction's power over the target's, [B]; 1 for a target without power there. Of many images it is the
    ratio of the means, `metrics.mean_over_images`."""

    def ratio(target: jax.Array, recon: jax.Array) -> jax.Array:
        equal_shapes(f"spectrum_{band}", target, recon)
        own, theirs = band_power(recon, band), band_power(target, band)
        return jnp.where(theirs > 0, own / jnp.where(theirs > 0, theirs, 1.0), 1.0)

    return ratio


SPECTRUM = {f"spectrum_{band}": _ratio(band) for band in BANDS}
POWER = {
    name: metric
    for band in BANDS
    for name, metric in both_sides(f"power_{band}", functools.partial(band_power, band=band)).items()
}
