"""Whether a digit is still the same digit to the shipped MNIST classifier."""

from typing import Any

import jax
import jax.numpy as jnp

from vae_jax.backbones import BACKBONES, load_backbone
from vae_jax.data.contract import Dataset
from vae_jax.losses.checks import equal_shapes
from vae_jax.metrics.perceptual import FrozenMetric

CLASSIFIER = "mnist_classifier"
SIZE = 28


def _reads(images: jax.Array, weights: Any, labels: jax.Array) -> jax.Array:
    """1 where the classifier reads the label in the central 28x28 pixels of grey images [B, H, W, 1], else 0: [B]."""
    top, left = ((length - SIZE) // 2 for length in images.shape[1:3])
    middle = images[:, top : top + SIZE, left : left + SIZE]
    logits = BACKBONES[CLASSIFIER].apply(weights, middle, ("logits",))["logits"]
    return (jnp.argmax(logits, axis=1) == labels).astype(jnp.float32)


def _accuracy(target: jax.Array, recon: jax.Array, weights: Any, labels: jax.Array) -> jax.Array:
    equal_shapes("digit_accuracy", target, recon)
    return _reads(recon, weights, labels)


def _target_accuracy(target: jax.Array, recon: jax.Array, weights: Any, labels: jax.Array) -> jax.Array:
    equal_shapes("target_digit_accuracy", target, recon)
    return _reads(target, weights, labels)


def _load(dataset: Dataset) -> Any:
    return load_backbone(CLASSIFIER, "", ("logits",))


digit_accuracy = FrozenMetric((CLASSIFIER,), SIZE, _load, _accuracy, labelled=True)
target_digit_accuracy = FrozenMetric((CLASSIFIER,), SIZE, _load, _target_accuracy, labelled=True)
