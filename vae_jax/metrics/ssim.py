"""Structural similarity (Wang et al. 2004)."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.checks import equal_shapes

SIZE, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def _smooth(images: jax.Array) -> jax.Array:
    """Gaussian mean over 11x11 windows, valid: [B, H, W, C] -> [B, H - 10, W - 10, C]."""
    offsets = np.arange(SIZE) - SIZE // 2
    window = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    window = window / window.sum()
    height, width = images.shape[1] - SIZE + 1, images.shape[2] - SIZE + 1
    rows = sum(float(w) * images[:, i : i + height] for i, w in enumerate(window))
    return sum(float(w) * rows[:, :, i : i + width] for i, w in enumerate(window))


def ssim(target: jax.Array, recon: jax.Array) -> jax.Array:
    """Mean SSIM over windows and channels of images [B, H, W, C] in [0, 1], at least 11x11: [B], 1 for equal images.

    11x11 Gaussian window of sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03, windows inside the image only.
    """
    equal_shapes("ssim", target, recon)
    if min(target.shape[1:3]) < SIZE:
        raise ValueError(f"ssim needs images of at least {SIZE}x{SIZE} pixels, not {target.shape}")
    c1, c2 = K1**2, K2**2
    mean_x, mean_y = _smooth(target), _smooth(recon)
    var_x = _smooth(target * target) - mean_x * mean_x
    var_y = _smooth(recon * recon) - mean_y * mean_y
    cov = _smooth(target * recon) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    similarity = similarity / ((mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2))
    return jnp.mean(similarity, axis=(1, 2, 3))
