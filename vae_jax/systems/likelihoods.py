"""Reconstruction terms that are likelihoods, so that a VAE's loss is an ELBO, and terms with learnt parameters.

With weight w of the term and b of KL, the loss is b (KL + (w / b) term): up to a constant factor and a normaliser, the
-ELBO of the density proportional to exp(-(w / b) term):

    l2        Gaussian of variance b / (2 w)
    l1        Laplace density of scale b / w
    bce       continuous Bernoulli of natural parameter (w / b) logit(recon)
    gaussian  Gaussian with learnt variance
    adaptive  Barron's adaptive density, with learnt shapes and scales

The last two are -log p themselves; their parameters belong to the player `vae`. If the weight of the KL or of one of
the first three moves (`multipliers.py`), so does the density, and no ELBO is reported.
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
from vae_jax.systems.networks import noise_by_index

IMPORTANCE_WEIGHTED = "iwae_"  # and the number of samples: the name of that bound
LEVELS = 256  # of an 8-bit image: the probability of a level is the density in [0, 1] over LEVELS


class LearntTerm(NamedTuple):
    """init: image_shape -> parameters by name. nll: (target, recon, parameters) -> [B]."""

    init: Callable[[tuple[int, int, int]], dict[str, jax.Array]]
    nll: Callable[[jax.Array, jax.Array, Mapping[str, jax.Array]], jax.Array]


def gaussian(*, sigma: float = 0.1) -> LearntTerm:
    """One learnt standard deviation for all pixels, starting from `sigma`. UserError unless it is above 0."""
    if not sigma > 0:
        raise UserError(f"terms.gaussian.sigma is {sigma}; expected a standard deviation above 0.")
    return LearntTerm(
        lambda image_shape: {"log_sigma": jnp.full((), np.log(sigma))},
        lambda target, recon, learnt: gaussian_nll(target, recon, jnp.exp(2 * learnt["log_sigma"])),
    )


def adaptive(*, representation: str = "wavelet", scale: float = 0.1) -> LearntTerm:
    """A learnt shape and scale for each coefficient of the residual; scales start from `scale`."""
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

    names: the config's terms with learnt parameters.
    init: image_shape -> their parameters by term.
    values: (learnt, target, recon) -> {term: [B]} of those terms.
    nll: (learnt, target, recon) -> -log p(target | recon) [B] in nats; None if the loss is not an ELBO.
    """

    names: tuple[str, ...]
    init: Callable[[tuple[int, int, int]], dict[str, Any]]
    values: Callable[..., dict[str, jax.Array]]
    nll: Callable[..., jax.Array] | None


def make_likelihoods(config: ConfigDict) -> Likelihoods:
    """The likelihoods among a config's terms."""
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
    if term.get("target") or config.terms.kl.get("target"):  # the density moves with the weights
        return None

    def nll(learnt, target: jax.Array, recon: jax.Array) -> jax.Array:
        ratio = term.weight / config.terms.kl.weight
        if term.get("reduction", "sum") == "mean":
            ratio = ratio / np.prod(target.shape[1:])
        return FIXED[name](target, recon, ratio)

    return nll


def sampled_nll(
    nll: Callable[[jax.Array], jax.Array], mean: jax.Array, logvar: jax.Array, index: jax.Array, samples: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """-log p(x | z) [B] averaged over draws of z from q(z | x), and bounds on log p(x) that several draws give.

    Args:
      nll: z [B, latents] -> -log p(x | z) [B] in nats.
      mean, logvar: of q(z | x), [B, latents].
      index: the examples' places in the judged split, [B], from which the draws follow.
      samples: K, the number of draws. If above 1 there is the importance-weighted bound
        {'iwae_K': log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)} [B] (Burda et al. 2016, equation (8)).
    """

    def at(sample):
        noise = noise_by_index(index, sample, mean.shape[1:])
        z = mean + jnp.exp(logvar / 2) * noise
        cost = nll(z)
        return cost, jnp.sum(jnp.square(noise) + logvar - jnp.square(z), axis=1) / 2 - cost

    if samples == 1:
        return at(0)[0], {}
    costs, log_weights = jax.lax.map(at, jnp.arange(samples))  # [K, B]; one decoder at a time is in memory
    bound = jax.nn.logsumexp(log_weights, axis=0) - np.log(samples)
    return jnp.mean(costs, axis=0), {f"{IMPORTANCE_WEIGHTED}{samples}": bound}


def elbo(nll: jax.Array, kl: jax.Array, image_shape: tuple[int, int, int]) -> dict[str, jax.Array]:
    """{'elbo', 'bits_per_dimension'} [B] from -log p(x | z) and KL [B] in nats.

    The ELBO bounds a log-density over images in [0, 1]. Bits per dimension treat each of the 256 levels of an 8-bit
    value as 1 / 256 wide, without dequantisation; lower is better.
    """
    bound = -(nll + kl)
    return {"elbo": bound, "bits_per_dimension": np.log2(LEVELS) - bound / (np.prod(image_shape) * np.log(2))}
