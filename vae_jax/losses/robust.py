"""The general robust loss, and the adaptive one, a density whose shape and scale are learnt for each dimension.

Source: Barron, "A General and Adaptive Robust Loss Function", CVPR 2019.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError, look_up
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.reduction import per_example
from vae_jax.losses.representations import REPRESENTATIONS

ALPHA_RANGE = (0.001, 1.999)
SMALLEST_SCALE = 1e-5
STEP, STEPS = 0.25, 64  # of the quadrature of Z: log Z is exact to 3e-6


def rho(x: jax.Array | np.ndarray, alpha: jax.Array | float, c: jax.Array | float) -> jax.Array:
    """|alpha - 2| / alpha (((x / c)^2 / |alpha - 2| + 1)^(alpha / 2) - 1), and its limits at alpha = 2, 0, -inf.

    Args:
      x: residuals of any shape, which the result has, too.
      alpha: the shape parameter, below inf, one or an array that broadcasts; 2: squares / 2, 1: smoothed absolute
        values, 0: Cauchy's, -2: Geman and McClure's, -inf: Welsch's loss.
      c: the scale, above 0: where |x| < c the loss is nearly (x / c)^2 / 2.
    Source: equation (8).
    """
    squares, alpha = jnp.square(x / c), jnp.asarray(alpha, jnp.float32)
    regular = (alpha != 2) & (alpha != 0) & (alpha != -jnp.inf)
    a = jnp.where(regular, alpha, 1.0)
    b = jnp.abs(a - 2)
    values = b / a * jnp.expm1(a / 2 * jnp.log1p(squares / b))
    values = jnp.where(alpha == 2, squares / 2, values)
    values = jnp.where(alpha == 0, jnp.log1p(squares / 2), values)
    return jnp.where(alpha == -jnp.inf, -jnp.expm1(-squares / 2), values)


def robust(
    target: jax.Array,
    recon: jax.Array,
    *,
    alpha: float = 1.0,
    c: float = 1.0,
    representation: str = "pixels",
    reduction: str = "sum",
) -> jax.Array:
    """`rho` of the residual recon - target of images [B, H, W, C] in [0, 1] with one shape and scale for all, [B].

    `representation` is one of `REPRESENTATIONS`: pixels, dct or wavelet. By default, shape and scale are where the
    adaptive form starts; a scale of 1 is the full range of the images.
    """
    equal_shapes("robust", target, recon)
    if math.isnan(alpha) or alpha == math.inf:
        raise UserError(f"terms.robust.alpha is {alpha}; expected a number below inf, or -inf.")
    if not c > 0:
        raise UserError(f"terms.robust.c is {c}; expected a scale above 0.")
    coefficients = look_up(REPRESENTATIONS, representation, "terms.robust.representation").transform(recon - target)
    return per_example(rho(coefficients, alpha, c), reduction)


def adaptive_nll(
    target: jax.Array,
    recon: jax.Array,
    latent_alpha: jax.Array,
    latent_scale: jax.Array,
    representation: str = "wavelet",
    first_scale: float = 1.0,
) -> jax.Array:
    """-log p(target | recon) = sum rho + log c + log Z(alpha) - log |det| over all coefficients in nats, [B].

    Args:
      target, recon: images [B, H, W, C] in [0, 1].
      latent_alpha, latent_scale: [H, W, C], learnt parameters, from `init_adaptive`; `shape_and_scale` of them are
        alpha and c of each coefficient.
      first_scale: c where latent_scale is 0.
      representation: of the residual, one of `REPRESENTATIONS`, whose log |det| makes it a density of pixels.
    Source: equation (16) and appendix D; the paper's VAEs.
    """
    equal_shapes("adaptive_nll", target, recon)
    for name, latent in (("latent_alpha", latent_alpha), ("latent_scale", latent_scale)):
        if latent.shape != target.shape[1:]:
            raise ValueError(f"adaptive_nll: {name} {latent.shape} must have the images' shape {target.shape[1:]}")
    transform, log_det = look_up(REPRESENTATIONS, representation, "representation")
    alpha, c = shape_and_scale(latent_alpha, latent_scale, first_scale)
    values = per_example(rho(transform(recon - target), alpha[None], c[None]), "sum")
    return values + jnp.sum(jnp.log(c) + log_partition(alpha)) - log_det(*target.shape[1:])


def init_adaptive(image_shape: tuple[int, int, int]) -> dict[str, jax.Array]:
    """The latents of `adaptive_nll` by name, zeros [H, W, C]: alpha 1 and the first scale everywhere."""
    return {"latent_alpha": jnp.zeros(image_shape), "latent_scale": jnp.zeros(image_shape)}


def shape_and_scale(
    latent_alpha: jax.Array, latent_scale: jax.Array, first_scale: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """alpha in (0.001, 1.999) by a sigmoid, c above 1e-5 by a softplus, `first_scale` at 0. Source: appendix."""
    low, high = ALPHA_RANGE
    alpha = low + (high - low) * jax.nn.sigmoid(latent_alpha)
    shift = math.log(math.expm1(1.0))  # softplus(shift) = 1
    return alpha, SMALLEST_SCALE + (first_scale - SMALLEST_SCALE) * jax.nn.softplus(latent_scale + shift)


def log_partition(alpha: jax.Array) -> jax.Array:
    """log Z(alpha) = log of the integral of exp(-rho(x, alpha, 1)) over x, for alpha in [0, 2]; of alpha's shape.

    By the trapezoidal rule in t, x = sqrt 2 sinh t, where the integrand is smooth and falls at least as exp(-t).
    """
    t = STEP * np.arange(STEPS + 1).reshape(-1, *(1,) * jnp.ndim(alpha))
    widths = np.where(t == 0, 1, 2) * STEP * math.sqrt(2) * np.cosh(t)  # dx, of both sides of 0
    x = (math.sqrt(2) * np.sinh(t)).astype(np.float32)
    return jnp.log(jnp.sum(widths.astype(np.float32) * jnp.exp(-rho(x, jnp.asarray(alpha)[None], 1.0)), axis=0))
