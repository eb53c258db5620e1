"""Frozen networks that see images as people do. A new one is one file and one line here."""

from collections.abc import Sequence

import jax

from vae_jax.backbones.contract import Backbone
from vae_jax.backbones.mnist_classifier import mnist_classifier
from vae_jax.backbones.weights import find_weights, load_weights
from vae_jax.errors import UserError, look_up, nearest

BACKBONES: dict[str, Backbone] = {"mnist_classifier": mnist_classifier}


def get_backbone(name: str, taps: Sequence[str] = (), image_size: int | None = None) -> Backbone:
    """The backbone of that name, once its taps and the image size are known to fit; UserError otherwise."""
    backbone = look_up(BACKBONES, name, "backbone.name")
    for tap in taps:
        if tap not in backbone.taps:
            raise UserError(f"Unknown tap {tap!r} of the backbone {name}. {nearest(tap, backbone.taps)}")
    if image_size is not None and image_size < backbone.min_size:
        raise UserError(f"The backbone {name} needs images of at least {backbone.min_size} pixels, not {image_size}.")
    return backbone


def load_backbone(name: str, path: str = ""):
    """The weights of a backbone: from `path`, or from where weights are looked for; shapes, keys and sum checked."""
    backbone = look_up(BACKBONES, name, "backbone.name")
    expected = jax.eval_shape(backbone.init, jax.random.key(0))
    return load_weights(path or find_weights(backbone.weights), expected)


def features(name: str, images: jax.Array, taps: Sequence[str] = ()) -> dict[str, jax.Array]:
    """{tap: [B, h, w, c]} of images [B, H, W, C] in [0, 1], all taps unless some are named; finds its weights."""
    backbone = get_backbone(name, taps)
    return backbone.apply(load_backbone(name), images, tuple(taps) or backbone.taps)
