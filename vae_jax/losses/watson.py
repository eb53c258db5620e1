"""Watson's perceptual distance, differentiable (Czolbe, Krause, Cox, Igel, "A Loss Function for Generative Neural
Networks Based on Watson's Perceptual Model", NeurIPS 2020).

Images are compared in blocks of 8x8 pixels by their cosine (`dct`) or Fourier coefficients (`dft`), each difference
relative to its visibility threshold, which brightness and contrast of the target raise.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax.config import image_shape
from vae_jax.errors import UserError, look_up
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.perceptual import PerceptualTerm
from vae_jax.losses.pixel import absolute
from vae_jax.runtime.batches import pad_edges
from vae_jax.weights.files import load_weights

BLOCK = 8
MARGIN = BLOCK // 2  # pixels by which a shifted image is extended
EPSILON = 1e-10
DARKEST = 1 / 255  # mean of a block below which it counts as that dark: sensitivities would grow without end towards 0
ARCCOS = 1e-7  # keeps the arc cosine's slope finite
PHASE_FLOOR = 1e-6  # of amplitudes: rounding errors have no phase. With the authors' 1e-10, slopes reach 1e10

# Sensitivities of the human eye by cosine frequency (Watson 1993, table 1, after Ahumada and Peterson 1992)
SENSITIVITIES = (
    (1.40, 1.01, 1.16, 1.66, 2.40, 3.43, 4.79, 6.56),
    (1.01, 1.45, 1.32, 1.52, 2.00, 2.71, 3.67, 4.93),
    (1.16, 1.32, 2.24, 2.59, 2.98, 3.64, 4.60, 5.88),
    (1.66, 1.52, 2.59, 3.77, 4.55, 5.30, 6.28, 7.60),
    (2.40, 2.00, 2.98, 4.55, 6.15, 7.46, 8.71, 10.17),
    (3.43, 2.71, 3.64, 5.30, 7.46, 9.62, 11.58, 13.51),
    (4.79, 3.67, 4.60, 6.28, 8.71, 11.58, 14.50, 17.29),
    (6.56, 4.93, 5.88, 7.60, 10.17, 13.51, 17.29, 21.15),
)
RGB_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)
CHROMA_OFFSET = np.array([0, 0.5, 0.5], np.float32)


def watson(
    target: jax.Array,
    recon: jax.Array,
    *,
    transform: str = "dft",
    weights: Mapping[str, Any] | None = None,
    shift: tuple[int, int] | None = None,
    phase: float = 1.0,
) -> jax.Array:
    """The sum over Y, Cb and Cr of channel weight times distance, [B]; a grey image has one channel.

    Per channel: masked = (sum (|c_0 - c_1| / s + e)^beta + e)^(1 / beta) over blocks and coefficients c, with s from
    `slacks`; `dft` compares amplitudes this way and adds the sum of phase weights times phase angles.

    Args:
      target, recon: images [B, H, W, 1 or 3] in [0, 1]. Sides are extended to multiples of 8 by their edges.
      transform: `dct` or `dft`.
      weights: see `initial_weights`, the default, from which the authors learn theirs on human judgements.
      shift: (rows, columns) in 0 .. 7, the first block's corner in the image extended by four pixels of its edges;
        None: (4, 4), the image's own corner. The authors draw it for every batch; here the caller may.
      phase: what the weights of phases are multiplied by, `dft` only. With the initial weights, phases are 98 % of the
        distance between photographs and do not see how bright an image is: a black one that keeps a trace of them is
        nearer than a blurred one.
    Source: section 3. The mean brightness is the image's; the authors' code takes the batch's, so that a distance
    depends on the other images.
    """
    equal_shapes("watson", target, recon)
    distance = look_up(DISTANCES, transform, "terms.watson.transform")
    weights = initial_weights(transform, target.shape[-1]) if weights is None else weights
    if transform == "dft":
        weights = {**weights, "phase": phase * weights["phase"]}
    blocks = (to_blocks(shifted(to_ycbcr(images), shift)) for images in (target, recon))
    return jnp.sum(distance(*blocks, weights) * weights["channel"][None], axis=1)


def watson_term(
    config: ConfigDict,
    transform: str = "dft",
    weights: str = "",
    shift: tuple[int, int] | None = None,
    phase: float = 1.0,
) -> PerceptualTerm:
    """`watson` with the weights of a file, or with the initial weights if `weights` is ''."""
    look_up(DISTANCES, transform, "terms.watson.transform")
    initial = initial_weights(transform, image_shape(config)[2])
    return PerceptualTerm(
        place="watson",
        load=lambda: load_weights(weights, initial) if weights else initial,
        see=lambda weights, images: {"image": images},
        compare=lambda weights, target, recon: watson(
            target["image"], recon["image"], transform=transform, weights=weights, shift=shift, phase=phase
        ),
    )


def initial_weights(transform: str, channels: int) -> dict[str, np.ndarray]:
    """The authors' initial weights for 1 or 3 channels, the last axis of each array. UserError for other numbers.

    sensitivity: t [8, 8, channels], or [8, 5, channels] of a real Fourier transform; luminance: alpha, contrast: w in
    (0, 1), pooling: beta, each [channels]; phase: [8, 5, channels], `dft` only; channel: [channels], with sum 1. In
    the authors' files the entries `*_tild` hold the log of t and phase, the logit of w and the logits of channel.
    """
    if channels not in (1, 3):
        raise UserError(f"watson compares images of one or three channels, not {channels}.")
    sensitivity, alpha, w, beta = INITIAL[transform]
    tree = {
        "sensitivity": np.repeat(sensitivity[..., None], channels, axis=-1),
        "luminance": np.full(channels, alpha),
        "contrast": np.full(channels, w),
        "pooling": np.full(channels, beta),
        "channel": np.full(channels, 1 / channels),
    }
    if transform == "dft":
        tree["phase"] = np.full(tree["sensitivity"].shape, math.exp(-2))
    return {name: array.astype(np.float32) for name, array in tree.items()}


def to_ycbcr(images: jax.Array) -> jax.Array:
    """RGB in [0, 1] -> YCbCr in [0, 1]; grey images unchanged."""
    if images.shape[-1] == 1:
        return images
    ycbcr = jnp.einsum("bhwc,yc->bhwy", images, RGB_TO_YCBCR, precision=jax.lax.Precision.HIGHEST)
    return ycbcr + CHROMA_OFFSET.reshape(1, 1, 1, 3)


def shifted(images: jax.Array, shift: tuple[int, int] | None) -> jax.Array:
    """The window of the same size at `shift` in the images extended by four pixels of their edges; None: (4, 4)."""
    if shift is None:
        return images
    if any(isinstance(start, int) and not 0 <= start < BLOCK for start in shift):
        raise UserError(f"terms.watson.shift is {tuple(shift)}; expected rows and columns of 0 to {BLOCK - 1}.")
    padded = pad_edges(images, (MARGIN, MARGIN), (MARGIN, MARGIN))
    return jax.lax.dynamic_slice(padded, (0, *shift, 0), images.shape)


def to_blocks(images: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, blocks, 8, 8, C]."""
    batch, height, width, channels = images.shape
    images = pad_edges(images, (0, -height % BLOCK), (0, -width % BLOCK))
    blocks = images.reshape(batch, -(-height // BLOCK), BLOCK, -(-width // BLOCK), BLOCK, channels).swapaxes(2, 3)
    return blocks.reshape(batch, -1, BLOCK, BLOCK, channels)


def slacks(brightness: jax.Array, amplitude: jax.Array, weights: Mapping[str, jax.Array]) -> jax.Array:
    """s: the visibility threshold of each coefficient of the target, [B, blocks, h, w, C].

    t_L = t ((c_00 + e) / (mean of c_00 + e))^alpha, s = smax(t_L, (|c| + e)^w t_L^(1 - w)) with the smooth maximum
    smax(a, b) = (a e^a + b e^b) / (e^a + e^b). `amplitude` is |c|; `brightness` [B, blocks, C] is that of c_00, as the
    mean of its block, and at least `DARKEST`: in the formula the threshold of a black block is 0, so that it alone, a
    hundred thousand times as visible as any other, would be the whole distance.
    """
    alpha, w = (weights[name][None, None] for name in ("luminance", "contrast"))
    brightness = jnp.maximum(brightness, DARKEST)
    luminance = (brightness / jnp.mean(brightness, axis=1, keepdims=True)) ** alpha  # [B, blocks, C]
    t = weights["sensitivity"][None, None] * luminance[:, :, None, None]
    w = w[:, :, None, None]
    contrast = (amplitude + EPSILON) ** w * t ** (1 - w)
    return t + (contrast - t) * jax.nn.sigmoid(contrast - t)


def pooled(difference: jax.Array, slack: jax.Array, weights: Mapping[str, jax.Array]) -> jax.Array:
    """(sum ((|difference| / s + e)^beta + e))^(1 / beta) over blocks and coefficients, [B, C]."""
    beta = weights["pooling"]
    values = (absolute(difference) / slack + EPSILON) ** beta.reshape(1, 1, 1, 1, -1) + EPSILON
    return jnp.sum(values, axis=(1, 2, 3)) ** (1 / beta[None])


def dct_distance(target: jax.Array, recon: jax.Array, weights: Mapping[str, jax.Array]) -> jax.Array:
    """[B, C] from blocks [B, blocks, 8, 8, C], by their orthonormal cosine transforms."""
    n, k = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK))
    cosines = np.cos(np.pi * (2 * n + 1) * k / (2 * BLOCK)) * np.sqrt(np.where(k == 0, 1, 2) / BLOCK)
    cosines, highest = cosines.astype(np.float32), jax.lax.Precision.HIGHEST
    c0, c1 = (jnp.einsum("ph,bkhwc,qw->bkpqc", cosines, x, cosines, precision=highest) for x in (target, recon))
    return pooled(c0 - c1, slacks(c0[:, :, 0, 0] / BLOCK, jnp.abs(c0), weights), weights)


def dft_distance(target: jax.Array, recon: jax.Array, weights: Mapping[str, jax.Array]) -> jax.Array:
    """[B, C] from blocks [B, blocks, 8, 8, C], by amplitudes and phases of their Fourier transforms / 64.

    The first coefficient, a block's mean, is compared with its sign. In [0, 1] it has none; but a decoder without an
    output activation may leave that range, and by amplitudes alone an image and its negative are the same.
    """
    c0, c1 = (jnp.fft.rfft2(x, axes=(2, 3)) / BLOCK**2 for x in (target, recon))
    a0, a1 = amplitude(c0), amplitude(c1)
    has_phase = np.ones((BLOCK, BLOCK // 2 + 1, 1), np.float32)
    has_phase[np.ix_((0, BLOCK // 2), (0, BLOCK // 2))] = 0  # these four are real
    phases = jnp.sum(has_phase[None, None] * weights["phase"][None, None] * angle(c0, c1), axis=(1, 2, 3))
    difference = (a0 - a1).at[:, :, 0, 0].set((c0 - c1).real[:, :, 0, 0])
    return pooled(difference, slacks(a0[:, :, 0, 0], a0, weights), weights) + phases


def amplitude(c: jax.Array, floor: float = EPSILON) -> jax.Array:
    """sqrt(|c|^2 + floor^2), whose gradient is 0 at 0."""
    return jnp.sqrt(jnp.square(c.real) + jnp.square(c.imag) + floor**2)


def angle(c0: jax.Array, c1: jax.Array) -> jax.Array:
    """arccos((1 - 1e-7) cos(difference of the phases)) of complex c + 1e-6, in (0, pi).

    Computed by the arc tangent of sine and cosine, (1 - d)^2 cos^2 + (sin^2 + (2 d - d^2) cos^2) = 1: an arc cosine
    near 1 has no digits left in float32.
    """
    c0, c1 = c0 + PHASE_FLOOR, c1 + PHASE_FLOOR
    product = c0 / amplitude(c0) * jnp.conj(c1 / amplitude(c1))
    sine = jnp.sqrt(jnp.square(product.imag) + (2 * ARCCOS - ARCCOS**2) * jnp.square(product.real))
    return jnp.arctan2(sine, (1 - ARCCOS) * product.real)


DISTANCES = {"dct": dct_distance, "dft": dft_distance}
INITIAL = {  # t, alpha, w, beta: Watson's, and the initial values of the authors' code
    "dct": (np.array(SENSITIVITIES), 0.649, 0.7, 4.0),
    "dft": (np.ones((BLOCK, BLOCK // 2 + 1)), 0.1, 0.2, 1.0),
}
