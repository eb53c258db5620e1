"""The interface of losses with frozen weights: a network's, or a metric's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import look_up

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
Seen = dict[str, jax.Array]


class PerceptualTerm(NamedTuple):
    """Compares features of two images by frozen weights. `losses.PERCEPTUAL_TERMS[name](config, **options)` makes one.

    place: key of its weights in a system's `frozen`.
    load: () -> these weights; UserError if their file is missing or does not match.
    see: (weights, images [B, H, W, C] in [0, 1]) -> {name: [B, ...]}.
    compare: (weights, features of the target, features of the reconstruction) -> [B], unweighted.
    taps: the names of features worth caching (`backbone.cache_targets`): all or none.
    """

    place: str
    load: Callable[[], Any]
    see: Callable[[Any, jax.Array], Seen]
    compare: Callable[[Any, Seen, Seen], jax.Array]
    taps: tuple[str, ...] = ()


def network_dtype(config: ConfigDict) -> Any:
    """The dtype of perceptual networks; UserError if it is unknown."""
    return look_up(DTYPES, config.backbone.dtype, "backbone.dtype")


def cast(tree: Any, dtype: Any) -> Any:
    """Weights cast to the network's dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
