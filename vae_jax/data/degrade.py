"""Resampling of images [B, H, W, C] on the device, by one matrix for rows and one for columns.

Bicubic resampling is Pillow's (`Image.resize` with BICUBIC, of floats): the kernel of Keys 1981 with a = -1/2, widened
by the factor when downsampling; pixels outside the image are left out and the other weights rescaled to sum to 1. The
Gaussian is `scipy.ndimage.gaussian_filter` with its defaults: truncated at 4 sigma, the image reflected at its edges.
"""

import jax
import jax.numpy as jnp
import numpy as np

KEYS = -0.5  # a, the slope of the kernel at 1
TRUNCATE = 4.0  # of the Gaussian, in sigmas


def degrade(images: jax.Array, factor: int, sigma: float) -> jax.Array:
    """Low-resolution images [B, H / factor, W / factor, C] in [0, 1]: Gaussian blur of `sigma` pixels, then bicubic.

    Values that the kernel's negative lobes push out of [0, 1] are clipped; nothing is rounded to 8 bits. ValueError
    unless `factor` divides height and width. Source: Johnson et al. 2016, section 4.2.
    """
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(f"{factor} does not divide both sides of {height}x{width} images: crop to multiples of it")
    rows, columns = (bicubic_matrix(n, n // factor) @ gaussian_matrix(n, sigma) for n in (height, width))
    return jnp.clip(_resample(images, rows, columns), 0, 1)


def bicubic(images: jax.Array, factor: int) -> jax.Array:
    """Bicubic upsampling: [B, h, w, C] -> [B, factor h, factor w, C], which may overshoot the range of `images`."""
    return _resample(images, *(bicubic_matrix(n, factor * n) for n in images.shape[1:3]))


def nearest_neighbour(images: jax.Array, factor: int) -> jax.Array:
    """Every pixel repeated as a square of side `factor`: [B, h, w, C] -> [B, factor h, factor w, C]."""
    return jnp.repeat(jnp.repeat(images, factor, axis=1), factor, axis=2)


def bicubic_matrix(length: int, new: int) -> np.ndarray:
    """[new, length] float64: the weight of each old pixel in each new pixel of a line."""
    stretch = max(length / new, 1.0)
    centres = (np.arange(new) + 0.5) * length / new
    t = np.abs(np.arange(length)[None, :] + 0.5 - centres[:, None]) / stretch
    near = ((KEYS + 2) * t - (KEYS + 3)) * t**2 + 1  # |t| <= 1
    far = ((KEYS * t - 5 * KEYS) * t + 8 * KEYS) * t - 4 * KEYS  # 1 < |t| < 2
    weights = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def gaussian_matrix(length: int, sigma: float) -> np.ndarray:
    """[length, length] float64: the weight of each pixel in each blurred pixel of a line."""
    radius = int(TRUNCATE * sigma + 0.5)
    window = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    reflected = np.pad(np.arange(length), radius, mode="symmetric")  # d c b a | a b c d | d c b a
    matrix = np.zeros((length, length))
    for offset, weight in enumerate(window / window.sum()):
        np.add.at(matrix, (np.arange(length), reflected[offset : offset + length]), weight)
    return matrix


def _resample(images: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    by_rows, by_columns = (jnp.asarray(matrix, images.dtype) for matrix in (rows, columns))
    return jnp.einsum("ih,bhwc,jw->bijc", by_rows, images, by_columns, precision="highest")
