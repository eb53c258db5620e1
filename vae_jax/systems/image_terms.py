"""The terms that compare a reconstruction with its image: any system that makes images takes them from its config."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import IMAGE_TERMS, TERMS, feature
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.lpips import LPIPS, distance, load_lpips
from vae_jax.weights.finding import LPIPS_NET, RANDOM

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
WHEN_AND_HOW_MUCH = ("weight", "start", "warmup")  # what the rules of every system read of a term


class ImageTerms(NamedTuple):
    """Pure functions.

    names: the terms, in the config's order.
    frozen: () -> weights of the perceptual networks that they look through.
    values: (frozen, batch, recon) -> {term: [B]} of the images of a batch and their reconstructions.
    feature: the same for the feature term alone, and {} where there is none.
    targets: (frozen, images) -> {'TERM/TAP': [B, h, w, c]}, what the networks see of images, in the type that they
      compute in; a batch that holds this beside its images is not looked at again. {} where no term has a network.
    """

    names: tuple[str, ...]
    frozen: Callable[[], dict[str, Any]]
    values: Callable[..., dict[str, jax.Array]]
    feature: Callable[..., dict[str, jax.Array]]
    targets: Callable[..., dict[str, jax.Array]]


class PerceptualTerm(NamedTuple):
    """A term that compares what a perceptual network sees of two images.

    place: where its weights are in `frozen`. load: () -> these weights.
    see: (weights, images) -> {tap: [B, h, w, c]}, of `taps`.
    compare: (weights, target, recon) -> [B], of what is seen of both.
    """

    place: str
    load: Callable[[], Any]
    taps: tuple[str, ...]
    see: Callable[..., dict[str, jax.Array]]
    compare: Callable[..., jax.Array]


def make_image_terms(config: ConfigDict, own: Collection[str], rule_keys: Collection[str] = ()) -> ImageTerms:
    """The config's terms but for those of the system's `own`: feature and any of `losses.IMAGE_TERMS`.

    `rule_keys` are the keys of a term that the system's rules read beside its weight, start and warmup.
    """
    options = {name: loss_options(term, rule_keys) for name, term in config.terms.items() if name not in own}
    for name in options:
        look_up(dict.fromkeys((*own, *TERMS)), name, "term")
        if name != "feature" and name not in IMAGE_TERMS:
            places = ", ".join((*own, "feature", *IMAGE_TERMS))
            raise UserError(f"The term {name!r} has no place in a {config.system}: it takes {places}.")
    dtype = look_up(DTYPES, config.backbone.dtype, "backbone.dtype")
    looks = {
        name: call_with_options(LOOKS[name], f"The term {name}", config, dtype, **options.pop(name))
        for name in tuple(options)
        if name in LOOKS
    }

    checkpointing = config.get("checkpointing", False)  # absent in earlier workdirs
    see_recon = {
        name: jax.checkpoint(look.see, policy=comparisons) if checkpointing else look.see
        for name, look in looks.items()
    }

    def frozen() -> dict[str, Any]:
        return {look.place: look.load() for look in looks.values()}

    def look_at(name: str, frozen, batch: Mapping[str, jax.Array], recon: jax.Array) -> jax.Array:
        look, target = looks[name], batch["image"]
        equal_shapes(name, target, recon)
        weights, held = frozen[look.place], {tap: batch[key] for tap in look.taps if (key := f"{name}/{tap}") in batch}
        seen = (held or look.see(weights, target), see_recon[name](weights, recon))
        return look.compare(weights, *({tap: x[tap].astype(jnp.float32) for tap in look.taps} for x in seen))

    def targets(frozen, images: jax.Array) -> dict[str, jax.Array]:
        seen = {name: look.see(frozen[look.place], images) for name, look in looks.items()}
        return {f"{name}/{tap}": x.astype(dtype) for name, features in seen.items() for tap, x in features.items()}

    def feature_value(frozen, batch: Mapping[str, jax.Array], recon: jax.Array) -> dict[str, jax.Array]:
        return {"feature": look_at("feature", frozen, batch, recon)} if "feature" in looks else {}

    def values(frozen, batch: Mapping[str, jax.Array], recon: jax.Array) -> dict[str, jax.Array]:
        return {name: look_at(name, frozen, batch, recon) for name in looks} | {
            name: call_with_options(IMAGE_TERMS[name], f"The term {name}", batch["image"], recon, **term)
            for name, term in options.items()
        }

    names = tuple(name for name in config.terms if name not in own)
    return ImageTerms(names, frozen, values, feature_value, targets)


def _feature(
    config: ConfigDict,
    dtype: jnp.dtype,
    taps: Sequence[str] = (),
    tap_weights: Sequence[float] | None = None,
    reduction: str = "sum",
) -> PerceptualTerm:
    if not taps:
        raise UserError("terms.feature.taps is empty: name at least one tap of the backbone.")
    backbone = get_backbone(config.backbone.name, taps, config.image_size)
    return PerceptualTerm(
        "backbone",
        lambda: _cast(load_backbone(config.backbone.name, config.backbone.weights, taps), dtype),
        tuple(taps),
        lambda weights, images: backbone.apply(weights, images, tuple(taps)),
        lambda weights, target, recon: feature(target, recon, tap_weights=tap_weights, reduction=reduction),
    )


def _lpips(config: ConfigDict, dtype: jnp.dtype, net: str = LPIPS_NET) -> PerceptualTerm:
    chosen = look_up(LPIPS, net, "terms.lpips.net")
    backbone = get_backbone(chosen.backbone, chosen.taps, config.image_size)

    def load() -> dict[str, Any]:
        weights = load_lpips(net, RANDOM if config.backbone.weights == RANDOM else "")
        return weights | {"backbone": _cast(weights["backbone"], dtype)}

    return PerceptualTerm(
        "lpips",
        load,
        chosen.taps,
        lambda weights, images: backbone.apply(weights["backbone"], images, chosen.taps),
        lambda weights, target, recon: distance(target, recon, weights["heads"]),
    )


def comparisons(primitive, *_, **__) -> bool:
    """What is held of a frozen network under checkpointing: where its ReLUs are open and its maxima lie, in bytes.

    Its weights have no gradient, so that a chain of convolutions, ReLUs and maxima needs no more of its activations.
    """
    return primitive.name in ("gt", "eq")


LOOKS = {"feature": _feature, "lpips": _lpips}


def loss_options(term: Mapping, rule_keys: Collection[str] = ()) -> dict[str, Any]:
    """What of a term goes to the loss itself: all but when and how much it counts."""
    return {key: value for key, value in term.items() if key not in (*WHEN_AND_HOW_MUCH, *rule_keys)}


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
