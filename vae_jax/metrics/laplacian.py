"""The variance of the Laplacian, a measure of focus (Pech-Pacheco et al. 2000; the DFC-VAE article)."""

import jax
import jax.numpy as jnp

from vae_jax.losses.checks import equal_shapes


def laplacian(images: jax.Array) -> jax.Array:
    """The 4-neighbour Laplacian [0 1 0; 1 -4 1; 0 1 0] of images [B, H, W, C], same shape.

    The border is mirrored without repeating the edge (reflect-101), as `cv2.Laplacian` does.
    """
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    horizontal = padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return vertical + horizontal - 4 * images


def laplacian_variance(images: jax.Array) -> jax.Array:
    """Population variance of the Laplacian over H, W, C of images [B, H, W, C] in [0, 1]: higher is sharper, [B].

    Grain counts as sharpness: read it together with `residual_laplacian_variance` and a picture.
    """
    values = laplacian(images)
    return jnp.var(values.reshape(values.shape[0], -1), axis=1)


def residual_laplacian_variance(target: jax.Array, recon: jax.Array) -> jax.Array:
    """Laplacian variance of recon - target, [B]: missing sharpness, and grain that is not in the target."""
    equal_shapes("residual_laplacian_variance", target, recon)
    return laplacian_variance(recon - target)
