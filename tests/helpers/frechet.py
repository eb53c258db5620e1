"""The Fréchet distance by numpy alone, and the features of a small network."""

import numpy as np

from vae_jax import backbones
from vae_jax.metrics.frechet import Features

SMALL = Features("mnist_classifier", "relu3")  # 64 features, weights that come with the repository


def by_singular_values(a, b):
    """The same for singular covariances, where scipy's root fails: tr (S S')^1/2 is the sum of the singular
    values of X X'^T / sqrt((n - 1) (m - 1)), X and X' being the centred features."""
    a, b = (np.asarray(features, np.float64) for features in (a, b))
    x, y = (features - features.mean(0) for features in (a, b))
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    variances = sum((centred**2).sum() / (len(centred) - 1) for centred in (x, y))
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + variances - 2 * overlap


def means(features, images):
    """Spatial means of a tap, by the public function and numpy."""
    tap = backbones.features(features.network, images, (features.tap,))[features.tap]
    return np.asarray(tap, np.float64).mean(axis=(1, 2))
