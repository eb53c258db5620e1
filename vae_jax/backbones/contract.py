"""The contract of a frozen perceptual network."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Backbone(NamedTuple):
    """Maps images [B, H, W, C] in [0, 1] to named features; owns its preprocessing, takes its weights as an argument.

    The weights file has the backbone's name in BACKBONES.

    taps: every named feature, in the order of the network, with the smallest height and width that reaches it.
    init: (key, taps) -> random weights of the layers that lead to these taps.
    apply: (weights, images, taps) -> {tap: [B, h, w, c] or [B, c], float32} in the order of `taps`. The network runs
      in the dtype of its weights, such as bfloat16.
    largest: the largest height and width of the taps that have one: dense layers whose weights fit one size only.
    """

    taps: Mapping[str, int]
    init: Callable[..., Any]
    apply: Callable[..., dict[str, jax.Array]]
    largest: Mapping[str, int] = MappingProxyType({})

    def takes(self, tap: str, *sizes: int) -> bool:
        """Whether images of this height and width have that tap."""
        return all(self.taps[tap] <= size <= self.largest.get(tap, size) for size in sizes)


def flax_backbone(
    module: nn.Module,
    preprocess: Callable[[jax.Array], jax.Array],
    taps: Mapping[str, int],
    largest: Mapping[str, int] = MappingProxyType({}),
) -> Backbone:
    """A backbone of `module(images, taps=taps) -> {tap: features}`, which computes no layer beyond the last tap."""

    @functools.partial(jax.jit, static_argnums=1)  # compiled once for each set of taps
    def init(key: jax.Array, chosen: tuple[str, ...]):
        size = max(taps[tap] for tap in chosen)
        images = jnp.zeros((1, size, size, 3))
        return module.init(key, preprocess(images), taps=chosen)["params"]

    def apply(tree, images: jax.Array, chosen: tuple[str, ...]) -> dict[str, jax.Array]:
        dtype = jax.tree.leaves(tree)[0].dtype
        features: Any = module.apply({"params": tree}, preprocess(images).astype(dtype), taps=chosen)
        return {tap: features[tap].astype(jnp.float32) for tap in chosen}

    return Backbone(taps, init, apply, largest)
