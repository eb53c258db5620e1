"""Structural similarity: SSIM (Wang, Bovik, Sheikh, Simoncelli 2004) and MS-SSIM (Wang, Simoncelli, Bovik 2003).

11x11 Gaussian window of sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03, windows inside the image only, images
[B, H, W, C] in [0, 1]; channels count separately. The similarities are metrics, one minus them are losses.

A decoder without an output activation can leave [0, 1], where the definition takes the negative of a texture for the
texture (both factors are -1) and a mean far below 0 for better than one just below. So below 0 the luminance goes on
along its tangent at 0 and stands for the similarity where it is negative. Images in [0, 1] are judged as defined.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError
from vae_jax.losses.checks import equal_shapes
from vae_jax.runtime.batches import pad_edges

SIZE, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # from the finest scale to the coarsest


def ssim(target: jax.Array, recon: jax.Array) -> jax.Array:
    """1 - SSIM, [B], 0 for equal images, in [0, 2] for images in [0, 1]; images of at least 11x11 pixels."""
    return 1 - structural_similarity(target, recon)


def ms_ssim(target: jax.Array, recon: jax.Array) -> jax.Array:
    """1 - MS-SSIM, [B], in [0, 1], 0 for equal images; its gradient is zero where a scale is clipped at 0."""
    return 1 - multiscale_structural_similarity(target, recon)


def structural_similarity(target: jax.Array, recon: jax.Array) -> jax.Array:
    """SSIM, [B]: mean over windows and channels, 1 for equal images of at least 11x11 pixels. Source: equation (13)."""
    equal_shapes("ssim", target, recon)
    _check_size("ssim", target)
    return jnp.mean(_similarity(*_luminance_and_contrast(target, recon)), axis=(1, 2, 3))


def multiscale_structural_similarity(target: jax.Array, recon: jax.Array) -> jax.Array:
    """MS-SSIM, [B], in [0, 1], 1 for equal images of at least 11x11 pixels.

    prod_j cs_j^w_j over the scales, with SSIM in place of cs at the last: cs_j is the mean over windows of contrast
    times structure, clipped at 0, as SSIM is. The mean over channels comes last. Each scale halves height and width by
    averaging 2x2 pixels; an odd side is extended by its mirror image. As many of the five scales are used as windows
    fit, five above 160 pixels, two above 20; the weights of fewer than five are rescaled to sum to 1.
    Source: Wang, Simoncelli, Bovik 2003, equation (7), weights of section 3.2; the authors' halving.
    """
    equal_shapes("ms_ssim", target, recon)
    _check_size("ms_ssim", target)
    weights = SCALE_WEIGHTS[: scale_count(*target.shape[1:3])]
    if len(weights) < len(SCALE_WEIGHTS):  # the published five sum to 1.0001
        weights = [weight / sum(weights) for weight in weights]
    product = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            target, recon = _halved(target), _halved(recon)
        luminance, contrast = _luminance_and_contrast(target, recon)
        similarity = _similarity(luminance, contrast) if scale == len(weights) - 1 else contrast
        product *= _clipped_power(jnp.mean(similarity, axis=(1, 2)), weight)  # [B, C]
    return jnp.mean(product, axis=1)


def scale_count(height: int, width: int) -> int:
    """The number of MS-SSIM's five scales that images of this size have."""
    return sum(min(height, width) > (SIZE - 1) * 2**scale for scale in range(len(SCALE_WEIGHTS)))


def _check_size(name: str, images: jax.Array) -> None:
    if min(images.shape[1:3]) < SIZE:
        height, width = images.shape[1:3]
        raise UserError(
            f"{name} uses windows of {SIZE}x{SIZE} pixels, which do not fit images of {height}x{width}. "
            "Use larger images, or leave it out."
        )


def _smooth(images: jax.Array) -> jax.Array:
    """Gaussian mean over 11x11 windows, valid: [..., B, H, W, C] -> [..., B, H - 10, W - 10, C].

    A product with two banded matrices: ten times faster on CPU than sums of slices, gradient included. At the highest
    precision, because squares of the result are subtracted.
    """
    rows, columns = _windows(images.shape[-3]), _windows(images.shape[-2])
    return jnp.einsum("ph,...hwc,qw->...pqc", rows, images, columns, precision=jax.lax.Precision.HIGHEST)


def _windows(length: int) -> np.ndarray:
    """[length - 10, length]: row i is the Gaussian window that starts at i."""
    window = np.exp(-0.5 * ((np.arange(SIZE) - SIZE // 2) / SIGMA) ** 2)
    bands = [w * np.eye(length - SIZE + 1, length, i) for i, w in enumerate(window / window.sum())]
    return np.sum(bands, axis=0).astype(np.float32)


def _luminance_and_contrast(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The factors l and cs of SSIM, [B, H - 10, W - 10, C] each."""
    c1, c2 = K1**2, K2**2
    centre = jnp.mean(x, axis=(1, 2), keepdims=True)  # does not change covariances, and avoids cancellation
    x, y = x - centre, y - centre
    mean_x, mean_y, square_x, square_y, product = _smooth(jnp.stack([x, y, x * x, y * y, x * y]))
    var_x, var_y, cov = square_x - mean_x * mean_x, square_y - mean_y * mean_y, product - mean_x * mean_y
    mean_x, mean_y = mean_x + centre, mean_y + centre
    bright = jnp.maximum(mean_y, 0)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + bright * bright + c1)
    return luminance, (2 * cov + c2) / (var_x + var_y + c2)


def _similarity(luminance: jax.Array, contrast: jax.Array) -> jax.Array:
    return jnp.where(luminance < 0, luminance, luminance * contrast)


def _halved(images: jax.Array) -> jax.Array:
    """Means of 2x2 pixels: [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C]."""
    height, width = images.shape[1:3]
    images = pad_edges(images, (0, height % 2), (0, width % 2))
    rows = (images[:, 0::2] + images[:, 1::2]) / 2
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) / 2


def _clipped_power(x: jax.Array, exponent: float) -> jax.Array:
    """max(x, 0)^exponent, with gradient 0 where x is not positive: the power's own is infinite at 0."""
    return jnp.where(x > 0, jnp.where(x > 0, x, 1.0) ** exponent, 0.0)
