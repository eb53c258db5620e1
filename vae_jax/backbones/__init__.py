"""Frozen perceptual networks. A new one is one file and one line here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from vae_jax.backbones.alexnet import alexnet
from vae_jax.backbones.caffenet import caffenet, videonet
from vae_jax.backbones.contract import Backbone
from vae_jax.backbones.exemplar_cnn import exemplar_cnn
from vae_jax.backbones.facenet import facenet
from vae_jax.backbones.mnist_classifier import mnist_classifier
from vae_jax.backbones.vgg import vgg16, vgg16_caffe, vgg19, vgg19_caffe
from vae_jax.errors import UserError, did_you_mean, look_up
from vae_jax.state import flatten, unflatten
from vae_jax.weights.files import load_weights, stored_names
from vae_jax.weights.finding import RANDOM, RANDOM_DENSE, find_weights

BACKBONES: dict[str, Backbone] = {
    "mnist_classifier": mnist_classifier,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "vgg16_caffe": vgg16_caffe,
    "vgg19_caffe": vgg19_caffe,
    "alexnet": alexnet,
    "caffenet": caffenet,
    "videonet": videonet,
    "exemplar_cnn": exemplar_cnn,
    "facenet": facenet,
}


def get_backbone(name: str, taps: Sequence[str] = (), image_size: int | None = None) -> Backbone:
    """The backbone of that name; UserError unless it has the taps (all if none are named) at this image size."""
    backbone = look_up(BACKBONES, name, "backbone.name")
    for tap in taps:
        if tap not in backbone.taps:
            raise UserError(f"Unknown tap {tap!r} of the backbone {name}. {did_you_mean(tap, backbone.taps)}")
    for tap in taps or backbone.taps:
        if image_size is not None and not backbone.takes(tap, image_size):
            most = f" and at most {backbone.largest[tap]}" if tap in backbone.largest else ""
            raise UserError(
                f"The backbone {name} needs images of at least {backbone.taps[tap]}{most} pixels for {tap}, "
                f"not {image_size}."
            )
    return backbone


def load_backbone(name: str, path: str = "", taps: Sequence[str] = ()) -> Any:
    """The weights that `taps` (all if none are named) need, from `path` or where weights are looked up.

    Shapes, keys and sum are checked; a file may lack only layers beyond the taps. The path `random` stands for an
    untrained network, `random_dense` for one whose layers are untrained where the file lacks them.
    """
    backbone = get_backbone(name, taps)
    if path in (RANDOM, RANDOM_DENSE):
        tree = backbone.init(jax.random.key(0), tuple(taps) or tuple(backbone.taps))
        return tree if path == RANDOM else _with_stored(tree, find_weights(name))
    every = tuple(backbone.taps)
    needed, whole = _shapes(backbone, tuple(taps) or every), _shapes(backbone, every)
    return load_weights(path or find_weights(name), needed, whole)


def features(name: str, images: jax.Array, taps: Sequence[str] = ()) -> dict[str, jax.Array]:
    """{tap: [B, h, w, c]} of images [B, H, W, C] in [0, 1]; finds the weights itself.

    Without `taps`: all that the image size and the weights file allow.
    """
    backbone, sizes = get_backbone(name, taps), images.shape[1:3]
    if not taps:
        there = stored_names(find_weights(name))
        seen = [tap for tap in backbone.taps if backbone.takes(tap, *sizes)]
        taps = [tap for tap in seen if set(flatten(_shapes(backbone, (tap,)))) <= there]
    for size in sizes:
        get_backbone(name, taps, size)
    return backbone.apply(load_backbone(name, taps=taps), images, tuple(taps))


def _with_stored(tree: Any, path: Path) -> Any:
    """The tree with every leaf that the weights file holds taken from the file."""
    leaves, stored = flatten(tree), stored_names(path)
    there = {name: leaf for name, leaf in leaves.items() if name in stored}
    return unflatten(tree, leaves | load_weights(path, there, leaves))


def _shapes(backbone: Backbone, taps: tuple[str, ...]) -> Any:
    """The shapes of the weights that some taps need."""
    return jax.eval_shape(lambda: backbone.init(jax.random.key(0), taps))
