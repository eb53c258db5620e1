"""The terms that compare a reconstruction with its image: any system that makes images takes them from its config."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import IMAGE_TERMS, TERMS, feature
from vae_jax.losses.lpips import LPIPS, load_lpips
from vae_jax.weight_files import LPIPS_NET, RANDOM

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
WHEN_AND_HOW_MUCH = ("weight", "start", "warmup")  # what the rules of every system read of a term


class ImageTerms(NamedTuple):
    """Pure functions.

    names: the terms, in the config's order.
    frozen: () -> weights of the perceptual networks that they look through.
    values: (frozen, target, recon) -> {term: [B]}.
    feature: the same for the feature term alone, and {} where there is none.
    """

    names: tuple[str, ...]
    frozen: Callable[[], dict[str, Any]]
    values: Callable[..., dict[str, jax.Array]]
    feature: Callable[..., dict[str, jax.Array]]


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
    feature_options = options.pop("feature", None)
    if feature_options is not None:
        taps = tuple(feature_options.pop("taps", ()))
        if not taps:
            raise UserError("terms.feature.taps is empty: name at least one tap of the backbone.")
        backbone = get_backbone(config.backbone.name, taps, config.image_size)
    if "lpips" in options:
        net = options["lpips"].get("net", LPIPS_NET)
        get_backbone(look_up(LPIPS, net, "terms.lpips.net").backbone, LPIPS[net].taps, config.image_size)

    def frozen() -> dict[str, Any]:
        trees = {}
        if feature_options is not None:
            trees["backbone"] = _cast(load_backbone(config.backbone.name, config.backbone.weights, taps), dtype)
        if "lpips" in options:
            lpips = load_lpips(net, RANDOM if config.backbone.weights == RANDOM else "")
            trees["lpips"] = lpips | {"backbone": _cast(lpips["backbone"], dtype)}
        return trees

    def feature_value(frozen, target: jax.Array, recon: jax.Array) -> dict[str, jax.Array]:
        if feature_options is None:
            return {}
        target_features, recon_features = (backbone.apply(frozen["backbone"], x, taps) for x in (target, recon))
        return {"feature": feature(target_features, recon_features, **feature_options)}

    def values(frozen, target: jax.Array, recon: jax.Array) -> dict[str, jax.Array]:
        weights = {"lpips": {"weights": frozen["lpips"]}} if "lpips" in options else {}
        return feature_value(frozen, target, recon) | {
            name: call_with_options(
                IMAGE_TERMS[name], f"The term {name}", target, recon, **term, **weights.get(name, {})
            )
            for name, term in options.items()
        }

    names = tuple(name for name in config.terms if name not in own)
    return ImageTerms(names, frozen, values, feature_value)


def loss_options(term: Mapping, rule_keys: Collection[str] = ()) -> dict[str, Any]:
    """What of a term goes to the loss itself: all but when and how much it counts."""
    return {key: value for key, value in term.items() if key not in (*WHEN_AND_HOW_MUCH, *rule_keys)}


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
