"""Linear representations of images whose coefficients can be scored one by one: pixels, DCT, CDF 9/7 wavelets.

Each knows its log-determinant, so that a density of coefficients is one of pixels. Source: Barron, "A General and
Adaptive Robust Loss Function", CVPR 2019, section 3.1 and appendix; the lifting steps of the wavelet: Daubechies and
Sweldens, "Factoring wavelet transforms into lifting steps", 1998, section 7.6.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError

LEVELS = 5
PREDICT_1, UPDATE_1, PREDICT_2, UPDATE_2 = -1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971
ZETA = 1.149604398860241

RGB_TO_YUV = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.14714119, -0.28886916, 0.43601035],
        [0.61497538, -0.51496512, -0.10001026],
    ]
)
VOLUME_PRESERVING_YUV = (RGB_TO_YUV / np.cbrt(abs(np.linalg.det(RGB_TO_YUV)))).astype(np.float32)


class Representation(NamedTuple):
    """transform: (images [B, H, W, C]) -> coefficients of the same shape, linear.
    log_det: (H, W, C) -> log |det| of the transform of one image."""

    transform: Callable[[jax.Array], jax.Array]
    log_det: Callable[[int, int, int], float]


def yuv(images: jax.Array) -> jax.Array:
    """[B, H, W, 3] RGB -> YUV, scaled to preserve volume; grey images [B, H, W, 1] are unchanged."""
    if images.shape[-1] == 1:
        return images
    if images.shape[-1] != 3:
        raise UserError(f"YUV needs images with one or three channels, not {images.shape[-1]}: use pixels.")
    return jnp.einsum("bhwc,yc->bhwy", images, VOLUME_PRESERVING_YUV, precision=jax.lax.Precision.HIGHEST)


def dct(images: jax.Array) -> jax.Array:
    """Orthonormal discrete cosine transform (type 2) over height and width of [B, H, W, C]."""
    return jax.scipy.fft.dctn(images, axes=(1, 2), norm="ortho")


def wavelet(images: jax.Array) -> jax.Array:
    """CDF 9/7 wavelet coefficients of [B, H, W, C], reflected at the edges, without redundancy.

    The first ceil(H / 2) rows and ceil(W / 2) columns are the low frequencies, which the next level transforms in turn:
    five levels, or until a side is one pixel.
    """
    for h, w in _levels(*images.shape[1:3]):
        rows, columns = (_analysis(length).astype(np.float32) for length in (h, w))
        part = jnp.einsum("ph,bhwc,qw->bpqc", rows, images[:, :h, :w], columns, precision=jax.lax.Precision.HIGHEST)
        images = images.at[:, :h, :w].set(part)
    return images


def wavelet_log_det(height: int, width: int, channels: int) -> float:
    """log |det| of `wavelet`: low frequencies are scaled by zeta, high ones by 1 / zeta, and a line of odd length has
    one more low than high: 0 if all sides are even."""
    odd = sum(w * (h % 2) + h * (w % 2) for h, w in _levels(height, width))
    return channels * odd * float(np.log(ZETA))


def _levels(height: int, width: int) -> list[tuple[int, int]]:
    """The (height, width) that each level transforms."""
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(LEVELS)]
    return [size for size in sizes if min(size) > 1]


@functools.cache
def _analysis(length: int) -> np.ndarray:
    """The matrix [length, length] of one level of a line: low frequencies first, at even pixels, then high, at odd."""
    pixels = np.eye(length)
    even, odd = pixels[0::2], pixels[1::2]
    odd = odd + PREDICT_1 * _even_neighbours(even, odd)
    even = even + UPDATE_1 * _odd_neighbours(even, odd)
    odd = odd + PREDICT_2 * _even_neighbours(even, odd)
    even = even + UPDATE_2 * _odd_neighbours(even, odd)
    return np.concatenate([ZETA * even, odd / ZETA])


def _even_neighbours(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """The sum of both neighbours of every odd pixel; beyond the last pixel comes the one before it."""
    count = len(odd)
    return even[:count] + np.concatenate([even[1:], even[-1:]])[:count]


def _odd_neighbours(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """The sum of both neighbours of every even pixel, likewise reflected."""
    count = len(even)
    return np.concatenate([odd[:1], odd])[:count] + np.concatenate([odd, odd[-1:]])[:count]


REPRESENTATIONS = {  # as in the paper's VAEs: pixels are RGB, coefficients YUV
    "pixels": Representation(lambda images: images, lambda *size: 0.0),
    "dct": Representation(lambda images: dct(yuv(images)), lambda *size: 0.0),
    "wavelet": Representation(lambda images: wavelet(yuv(images)), wavelet_log_det),
}
