"""What of a VAE's reconstruction term is a likelihood, so that its loss is an ELBO, and terms that learn parameters.

Where the weight of the term is w and that of KL is b, the loss is b (KL + (w / b) term), which is -ELBO, but for a
constant factor and a normaliser, of the density that is proportional to exp(-(w / b) term):

    l2        Gaussian of variance b / (2 w)
    l1        Laplace density of scale b / w
    bce       continuous Bernoulli of natural parameter (w / b) logit(recon)
    gaussian  Gaussian whose variance is learnt
    adaptive  Barron's adaptive density, whose shapes and scales are learnt

The last two are -log p themselves; their parameters belong to the player of the VAE.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax.errors import UserError, call_with_options
from vae_jax.losses.densities import continuous_bernoulli_nll, gaussian_nll, laplace_nll
from vae_jax.losses.robust import adaptive_nll, init_adaptive
from vae_jax.systems.image_terms import loss_options

LEVELS = 256  # of an 8-bit image: densities of [0, 1] are as many times smaller than probabilities of levels


class LearntTerm(NamedTuple):
    """init: image_shape -> parameters by name. nll: (target, recon, parameters) -> [B]."""

    init: Callable[[tuple[int, int, int]], dict[str, jax.Array]]
    nll: Callable[[jax.Array, jax.Array, Mapping[str, jax.Array]], jax.Array]


def gaussian(*, sigma: float = 0.1) -> LearntTerm:
    """One standard deviation for all pixels, which starts from `sigma`."""
    if not sigma > 0:
        raise UserError(f"terms.gaussian.sigma is {sigma}; expected a standard deviation above 0.")
    return LearntTerm(
        lambda image_shape: {"log_sigma": jnp.full((), np.log(sigma))},
        lambda target, recon, learnt: gaussian_nll(target, recon, jnp.exp(2 * learnt["log_sigma"])),
    )


def adaptive(*, representation: str = "wavelet", scale: float = 0.1) -> LearntTerm:
    """A shape and a scale for each coefficient of the residual; the scales start from `scale`."""
    return LearntTerm(
        init_adaptive,
        lambda target, recon, learnt: adaptive_nll(
            target, recon, **learnt, representation=representation, first_scale=scale
        ),
    )


LEARNT_TERMS = {"gaussian": gaussian, "adaptive": adaptive}
FIXED = {  # (target, recon, w / b) -> -log p [B]
    "l2": lambda target, recon, ratio: gaussian_nll(target, recon, 1 / (2 * ratio)),
    "l1": lambda target, recon, ratio: laplace_nll(target, recon, 1 / ratio),
    "bce": continuous_bernoulli_nll,
}


class Likelihoods(NamedTuple):
    """Pure functions.

    names: the config's terms that learn parameters.
    init: image_shape -> their parameters by term.
    values: (learnt, target, recon) -> {term: [B]} of those terms.
    nll: (learnt, target, recon) -> -log p(target | recon) [B] in nats; None where the loss is not an ELBO.
    """

    names: tuple[str, ...]
    init: Callable[[tuple[int, int, int]], dict[str, Any]]
    values: Callable[..., dict[str, jax.Array]]
    nll: Callable[..., jax.Array] | None


def make_likelihoods(config: ConfigDict) -> Likelihoods:
    """The likelihoods among the terms of a config."""
    learnt_terms = {
        name: call_with_options(LEARNT_TERMS[name], f"The term {name}", **loss_options(term))
        for name, term in config.terms.items()
        if name in LEARNT_TERMS
    }

    def init(image_shape: tuple[int, int, int]) -> dict[str, Any]:
        return {name: term.init(image_shape) for name, term in learnt_terms.items()}

    def values(learnt, target: jax.Array, recon: jax.Array) -> dict[str, jax.Array]:
        return {name: term.nll(target, recon, learnt[name]) for name, term in learnt_terms.items()}

    return Likelihoods(tuple(learnt_terms), init, values, _nll(config, learnt_terms))


def _nll(config: ConfigDict, learnt_terms: Mapping[str, LearntTerm]) -> Callable[..., jax.Array] | None:
    others = [name for name in config.terms if name != "kl"]
    if "kl" not in config.terms or len(others) != 1:
        return None
    (name,) = others
    term = config.terms[name]
    if name in learnt_terms:
        return lambda learnt, target, recon: learnt_terms[name].nll(target, recon, learnt[name])
    if name not in FIXED or not config.terms.kl.weight > 0:
        return None

    def nll(learnt, target: jax.Array, recon: jax.Array) -> jax.Array:
        ratio = term.weight / config.terms.kl.weight
        if term.get("reduction", "sum") == "mean":
            ratio = ratio / np.prod(target.shape[1:])
        return FIXED[name](target, recon, ratio)

    return nll


def elbo(nll: jax.Array, kl: jax.Array, image_shape: tuple[int, int, int]) -> dict[str, jax.Array]:
    """{'elbo', 'bits_per_dimension'} [B] of -log p(x | z) and KL [B] in nats.

    The ELBO is of a density over images in [0, 1]; bits per dimension count the 256 levels of each number of an 8-bit
    image as 1 / 256 wide, without dequantisation, and are lower for a better model.
    """
    bound = -(nll + kl)
    return {"elbo": bound, "bits_per_dimension": np.log2(LEVELS) - bound / (np.prod(image_shape) * np.log(2))}
