"""The Gaussian likelihood that emphasises what a blur removes: its precision is built from a Wiener deconvolution.

For the residual r = recon - target and a blur kernel k, per channel of N = H W pixels, with K the discrete Fourier
transform of k centred at pixel (0, 0):

    w = conj(K) / (|K|^2 + C)                                      the Wiener weight
    g = |w|^2 + epsilon                                            the eigenvalues of the precision, times sigma^2
    -log p = 1/2 (r^T A r / sigma^2 - log det A + N log(2 pi sigma^2)),    A = F^-1 diag(g) F

A is circulant: images wrap around at their edges. epsilon, which is in both terms, bounds the log-determinant where the
kernel passes nothing.
Source: Bredell, Flouris, Chaitanya, Erdil, Konukoglu, "Explicitly Minimizing the Blur Error of Variational
Autoencoders", ICLR 2023, for the likelihood; the normalisation with epsilon and the free sigma follow from the formula.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError
from vae_jax.losses.checks import equal_shapes

SMALLEST_VARIANCE = 1e-6  # of the free sigma^2: a residual of a thousandth of the range


def wiener_nll(
    target: jax.Array,
    recon: jax.Array,
    kernel: jax.Array,
    *,
    epsilon: float,
    C: float = 0.025,
    sigma: jax.Array | float | None = None,
) -> jax.Array:
    """-log N(target; recon, (A / sigma^2)^-1) in nats, [B], over all pixels and channels.

    Args:
      target, recon: images [B, H, W, channels] in [0, 1].
      kernel: [B, k, k], k odd and at most H and W; one for all channels of an image.
      epsilon: the floor of |w|^2, above 0. |w|^2 is 1 / (1 + C)^2 where the kernel passes everything, and at most
        1 / (4 C), where |K|^2 = C.
      C: the Wiener filter's noise-to-signal ratio, above 0; 0.025 as in the same first author's W-DIP code.
      sigma: of the noise; None: the most likely one of each image, sigma^2 = r^T A r / (N channels), at least 1e-6.
        The result is then a bound on all fixed sigmas, not a density.
    """
    equal_shapes("wiener_nll", target, recon)
    if isinstance(sigma, float | int) and not sigma > 0:
        raise UserError(f"sigma of the Wiener likelihood is {sigma}; expected a standard deviation above 0.")
    _, height, width, channels = target.shape
    gain = wiener_gain(kernel, (height, width), C=C, epsilon=epsilon)
    squares, dimensions = quadratic_form(recon - target, gain), height * width * channels
    variance = jnp.maximum(squares / dimensions, SMALLEST_VARIANCE) if sigma is None else sigma**2
    log_det = channels * log_determinant(gain, width)
    return 0.5 * (squares / variance - log_det + dimensions * jnp.log(2 * jnp.pi * variance))


def wiener_gain(kernel: jax.Array | np.ndarray, size: tuple[int, int], *, C: float, epsilon: float) -> jax.Array:
    """g = |K|^2 / (|K|^2 + C)^2 + epsilon of kernels [B, k, k] for images of `size`: [B, H, W // 2 + 1], above 0.

    The columns are those of a real transform; the others are mirror images.
    """
    if not (C > 0 and epsilon > 0):
        raise UserError(f"C and epsilon of the Wiener likelihood are {C} and {epsilon}; both must be above 0.")
    power = jnp.square(jnp.abs(jnp.fft.rfft2(centred(kernel, size))))
    return power / jnp.square(power + C) + epsilon


def centred(kernel: jax.Array | np.ndarray, size: tuple[int, int]) -> jax.Array:
    """Zero-padded kernels [B, k, k], their centre at pixel (0, 0) and the rest wrapped around: [B, H, W]."""
    side = kernel.shape[-1]
    if kernel.ndim != 3 or kernel.shape[1] != side or side % 2 == 0 or side > min(size):
        raise UserError(
            f"A blur kernel of shape {kernel.shape[1:]} does not fit images of {size[0]}x{size[1]}; "
            "expected a square with an odd side, not longer than the image's shorter side."
        )
    padded = jnp.pad(kernel, ((0, 0), (0, size[0] - side), (0, size[1] - side)))
    return jnp.roll(padded, (-(side // 2), -(side // 2)), axis=(1, 2))


def quadratic_form(residual: jax.Array, gain: jax.Array) -> jax.Array:
    """r^T A r = 1/N sum_j g_j |F(r)_j|^2 over frequencies and channels, [B]: residual [B, H, W, C], `wiener_gain`."""
    _, height, width, _ = residual.shape
    spectrum = jnp.fft.rfft2(residual, axes=(1, 2))
    power = jnp.sum(jnp.square(spectrum.real) + jnp.square(spectrum.imag), axis=3)  # [B, H, W // 2 + 1]
    return jnp.einsum("bhw,bhw,w->b", gain, power, column_weights(width)) / (height * width)


def log_determinant(gain: jax.Array, width: int) -> jax.Array:
    """log det A = sum_j log g_j of one channel of images of this width, [B]."""
    return jnp.einsum("bhw,w->b", jnp.log(gain), column_weights(width))


def column_weights(width: int) -> np.ndarray:
    """The multiplicity in the full transform of each column of a real one: 2; 1 for the first, and the last if even."""
    columns = np.arange(width // 2 + 1)
    return np.where((columns == 0) | (2 * columns == width), 1, 2).astype(np.float32)


def blur(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [B, H, W, C] convolved with a kernel [B, k, k] each, wrapping around at their edges."""
    height, width = images.shape[1:3]
    transfer = jnp.fft.rfft2(centred(kernel, (height, width)))[..., None]
    return jnp.fft.irfft2(transfer * jnp.fft.rfft2(images, axes=(1, 2)), s=(height, width), axes=(1, 2))


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """A Gaussian of standard deviation `sigma` in pixels on [size, size], size odd, that sums to 1."""
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise UserError(f"A Gaussian kernel needs an odd size and a sigma above 0, not {size} and {sigma}.")
    line = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    return (np.outer(line, line) / line.sum() ** 2).astype(np.float32)
