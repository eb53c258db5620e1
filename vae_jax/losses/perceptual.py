"""The contract of losses that look through frozen weights: a network's, or a metric's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import look_up

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
Seen = dict[str, jax.Array]


class PerceptualTerm(NamedTuple):
    """Compares what frozen weights see of two images. `losses.PERCEPTUAL_TERMS[name](config, **options)` makes one.

    place: where its weights are in a system's `frozen`.
    load: () -> these weights; UserError if their file is missing or does not match.
    see: (weights, images [B, H, W, C] in [0, 1]) -> {name: [B, ...]}.
    compare: (weights, seen of the target, seen of the reconstruction) -> [B], unweighted.
    taps: the names in what is seen that are worth caching (`backbone.cache_targets`), all of them or none.
    """

    place: str
    load: Callable[[], Any]
    see: Callable[[Any, jax.Array], Seen]
    compare: Callable[[Any, Seen, Seen], jax.Array]
    taps: tuple[str, ...] = ()


def network_dtype(config: ConfigDict) -> Any:
    """The dtype in which perceptual networks compute."""
    return look_up(DTYPES, config.backbone.dtype, "backbone.dtype")


def cast(tree: Any, dtype: Any) -> Any:
    """Weights in the dtype in which their network computes."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
