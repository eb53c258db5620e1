"""The focal frequency loss: images are compared by their Fourier coefficients; those furthest off count most.

Source: Jiang, Dai, Wu, Loy, "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021.
"""

import jax
import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.losses.checks import equal_shapes


def focal_frequency(
    target: jax.Array, recon: jax.Array, *, alpha: float = 1.0, patch_factor: int = 1, log_matrix: bool = False
) -> jax.Array:
    """mean of w |F(recon) - F(target)|^2 over patches, frequencies and channels, [B], with w from `spectrum_weight`.

    F is the orthonormal discrete Fourier transform over height and width. In their VAEs of CelebA at 64x64 the authors
    add 100 times this loss to a mean squared error.

    Args:
      target, recon: images [B, H, W, C] in [0, 1]; channels count separately.
      alpha: the focus on frequencies that are far off; 0: none, which is the mean squared error.
      patch_factor: the number of patches along each side; each patch has its own spectrum.
      log_matrix: whether the weight is log(1 + |.|^alpha).
    Source: equations (5) to (8).
    """
    equal_shapes("focal_frequency", target, recon)
    if alpha < 0:
        raise UserError(f"terms.focal_frequency.alpha is {alpha}; expected an exponent of at least 0.")
    difference = jnp.fft.fft2(patches(recon - target, patch_factor), axes=(2, 3), norm="ortho")
    square = jnp.square(difference.real) + jnp.square(difference.imag)
    weight = spectrum_weight(jax.lax.stop_gradient(square), alpha, log_matrix)
    return jnp.mean(weight * square, axis=(1, 2, 3, 4))


def spectrum_weight(square: jax.Array, alpha: float, log_matrix: bool) -> jax.Array:
    """w = |F(recon) - F(target)|^alpha over its largest value in each patch and channel, in [0, 1]; 0 where all are 0.

    `square` [B, patches, h, w, C] is the squared modulus; the result has its shape.
    """
    weight = jnp.power(square, alpha / 2)
    weight = jnp.log1p(weight) if log_matrix else weight
    largest = jnp.max(weight, axis=(2, 3), keepdims=True)
    return jnp.where(largest > 0, weight / jnp.where(largest > 0, largest, 1.0), 0.0)


def patches(images: jax.Array, factor: int) -> jax.Array:
    """[B, H, W, C] -> [B, factor^2, H / factor, W / factor, C], row by row."""
    batch, height, width, channels = images.shape
    if not isinstance(factor, int) or factor < 1 or height % factor or width % factor:
        raise UserError(
            f"terms.focal_frequency.patch_factor is {factor}, which does not divide images of {height}x{width}; "
            "expected an integer that divides both sides."
        )
    cut = images.reshape(batch, factor, height // factor, factor, width // factor, channels)
    return cut.swapaxes(2, 3).reshape(batch, factor**2, height // factor, width // factor, channels)
