"""The contract of a frozen perceptual network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Backbone(NamedTuple):
    """Maps images [B, H, W, C] in [0, 1] to named features; owns its preprocessing, takes its weights as an argument.

    weights: name of its weights file, without `.safetensors`.
    taps: every named feature, in the order of the network.
    min_size: smallest height and width.
    init: (key) -> random weights of the right shapes.
    apply: (weights, images, taps) -> {tap: [B, h, w, c]} in the order of `taps`.
    """

    weights: str
    taps: tuple[str, ...]
    min_size: int
    init: Callable[[jax.Array], Any]
    apply: Callable[..., dict[str, jax.Array]]
