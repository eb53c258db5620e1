"""The terms that compare a reconstruction with its target: any system that generates images can use them."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import IMAGE_TERMS, PERCEPTUAL_TERMS, TERMS
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.perceptual import PerceptualTerm, network_dtype

WHEN_AND_HOW_MUCH = ("weight", "start", "warmup", "target")  # keys of a term that the rules of every system read


class ImageTerms(NamedTuple):
    """Pure functions.

    names: the terms, in the config's order.
    frozen: () -> weights of their perceptual networks.
    values: (frozen, batch, recon) -> {term: [B]} for the images of a batch and their reconstructions.
    feature: the same for the feature term alone; {} without one.
    targets: (frozen, images) -> {'TERM/TAP': [B, h, w, c]}, the networks' features of images, in the networks' dtype;
      they are not computed again for a batch that holds them. {} if no term has a network.
    """

    names: tuple[str, ...]
    frozen: Callable[[], dict[str, Any]]
    values: Callable[..., dict[str, jax.Array]]
    feature: Callable[..., dict[str, jax.Array]]
    targets: Callable[..., dict[str, jax.Array]]


def make_image_terms(config: ConfigDict, own: Collection[str], rule_keys: Collection[str] = ()) -> ImageTerms:
    """The config's terms except the system's `own`: any of PERCEPTUAL_TERMS and IMAGE_TERMS of `losses`.

    `rule_keys` are the keys of a term that the system's rules read besides WHEN_AND_HOW_MUCH. UserError if a
    term or an option is unknown.
    """
    options = {name: loss_options(term, rule_keys) for name, term in config.terms.items() if name not in own}
    for name in options:
        look_up(dict.fromkeys((*own, *TERMS, *PERCEPTUAL_TERMS)), name, "term")
        if name not in PERCEPTUAL_TERMS and name not in IMAGE_TERMS:
            places = ", ".join((*own, *PERCEPTUAL_TERMS, *IMAGE_TERMS))
            raise UserError(f"The system {config.system} does not take the term {name!r}. Choose from {places}.")
    dtype = network_dtype(config)
    perceptual: dict[str, PerceptualTerm] = {
        name: call_with_options(PERCEPTUAL_TERMS[name], f"The term {name}", config, **options.pop(name))
        for name in tuple(options)
        if name in PERCEPTUAL_TERMS
    }
    see_recon = {
        name: jax.checkpoint(term.see, policy=comparisons) if config.remat else term.see
        for name, term in perceptual.items()
    }

    def frozen() -> dict[str, Any]:
        return {term.place: term.load() for term in perceptual.values()}

    def compare(name: str, frozen, batch: Mapping[str, jax.Array], recon: jax.Array) -> jax.Array:
        term, target = perceptual[name], batch["image"]
        equal_shapes(name, target, recon)
        weights = frozen[term.place]
        cached = {tap: batch[key] for tap in term.taps if (key := f"{name}/{tap}") in batch}
        with jax.named_scope("perceptual"):
            seen = (cached or term.see(weights, target), see_recon[name](weights, recon))
            return term.compare(weights, *({tap: s[tap].astype(jnp.float32) for tap in term.taps or s} for s in seen))

    def targets(frozen, images: jax.Array) -> dict[str, jax.Array]:
        seen = {name: term.see(frozen[term.place], images) for name, term in perceptual.items() if term.taps}
        return {f"{name}/{tap}": x.astype(dtype) for name, features in seen.items() for tap, x in features.items()}

    def feature_value(frozen, batch: Mapping[str, jax.Array], recon: jax.Array) -> dict[str, jax.Array]:
        return {"feature": compare("feature", frozen, batch, recon)} if "feature" in perceptual else {}

    def values(frozen, batch: Mapping[str, jax.Array], recon: jax.Array) -> dict[str, jax.Array]:
        return {name: compare(name, frozen, batch, recon) for name in perceptual} | {
            name: call_with_options(IMAGE_TERMS[name], f"The term {name}", batch["image"], recon, **term)
            for name, term in options.items()
        }

    names = tuple(name for name in config.terms if name not in own)
    return ImageTerms(names, frozen, values, feature_value, targets)


def comparisons(primitive, *_, **__) -> bool:
    """What `remat` saves of a frozen network: masks of its ReLUs and maxima, one byte per entry.

    Its weights need no gradient, so a chain of convolutions, ReLUs and maxima needs no other activations.
    """
    return primitive.name in ("gt", "ge")


def loss_options(term: Mapping, rule_keys: Collection[str] = ()) -> dict[str, Any]:
    """The options of a term that its loss takes: all but WHEN_AND_HOW_MUCH and `rule_keys`."""
    return {key: value for key, value in term.items() if key not in (*WHEN_AND_HOW_MUCH, *rule_keys)}
