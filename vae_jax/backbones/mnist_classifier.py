"""The DFC-VAE article's perceptual model: a small classifier of MNIST digits (`configs/classifier_mnist.py`)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vae_jax.backbones.contract import Backbone
from vae_jax.models.mnist import MnistClassifier

TAPS = ("relu1", "relu2", "relu3", "relu4", "logits")


def init(key: jax.Array):
    """Random weights of the right shapes."""
    return MnistClassifier().init(key, jnp.zeros((1, 28, 28, 1)))["params"]


def apply(weights, images: jax.Array, taps: Sequence[str]) -> dict[str, jax.Array]:
    """Features of grey images [B, H, W, 1] in [0, 1]; `relu4` and `logits` ([B, n]) need 28x28."""
    if images.shape[-1] != 1:
        raise ValueError(f"mnist_classifier sees grey images [B, H, W, 1], not {images.shape}")
    convolutions_only = not {"relu4", "logits"} & set(taps)
    features = MnistClassifier().apply({"params": weights}, images, convolutions_only)
    return {tap: features[tap] for tap in taps}


mnist_classifier = Backbone("mnist_classifier", TAPS, min_size=18, init=init, apply=apply)
