"""The DFC-VAE article's perceptual model: a small classifier of MNIST digits (`configs/classifier_mnist.py`)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vae_jax.backbones.contract import Backbone
from vae_jax.models.mnist import MnistClassifier

TAPS = {"relu1": 3, "relu2": 8, "relu3": 18, "relu4": 28, "logits": 28}


def init(key: jax.Array, taps: Sequence[str]):
    """Random weights of the right shapes, for all layers whatever the taps: the file is small."""
    del taps
    return MnistClassifier().init(key, jnp.zeros((1, 28, 28, 1)))["params"]


def apply(weights, images: jax.Array, taps: Sequence[str]) -> dict[str, jax.Array]:
    """Features of grey images [B, H, W, 1] in [0, 1]; `relu4` and `logits` ([B, n]) need 28x28."""
    if images.shape[-1] != 1:
        raise ValueError(f"mnist_classifier takes grey images [B, H, W, 1], not {images.shape}")
    dense = {"relu4", "logits"} & set(taps)
    if dense and images.shape[1:3] != (28, 28):
        raise ValueError(f"{' and '.join(sorted(dense))} of mnist_classifier need images of 28x28, not {images.shape}")
    images = images.astype(jax.tree.leaves(weights)[0].dtype)
    features: Any = MnistClassifier().apply({"params": weights}, images, convolutions_only=not dense)
    return {tap: features[tap].astype(jnp.float32) for tap in taps}


mnist_classifier = Backbone(TAPS, init, apply)
