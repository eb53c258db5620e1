"""The Fréchet distance between two sets of images, by their features in a frozen network.

It belongs to two sets, not to an image. The name FID is reserved for the Inception network of 2015, which is not a
backbone here: by any other network the distance is called FD-NETWORK, with the tap, the size of the images that the
backbone gets (nothing is resized first) and their number, all of which change the value.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.data.pipeline import padded_indices
from vae_jax.errors import UserError
from vae_jax.weights.finding import find_weights, has_weights

FRECHET = "FD-"  # prefix of the network's name
Embed = Callable[[jax.Array], np.ndarray]  # images [B, H, W, C] in [0, 1] -> features [B, d]


@dataclass(frozen=True)
class Moments:
    """The count, mean and scatter of a set of features [n, d], in float64."""

    count: int
    mean: np.ndarray  # [d]
    scatter: np.ndarray  # [d, d], sum over the set of (f - mean)(f - mean)^T

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, [d, d]."""
        return self.scatter / (self.count - 1)


def moments(features: np.ndarray) -> Moments:
    """The moments of features [n, d], n at least 1."""
    if features.ndim != 2 or not len(features):
        raise ValueError(f"moments takes features [n, d] with at least one row, not {features.shape}")
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    centred = features - mean
    return Moments(len(features), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets together, equal to those of the whole up to float64 rounding.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    count, difference = a.count + b.count, b.mean - a.mean
    between = np.outer(difference, difference) * (a.count * b.count / count)
    return Moments(count, a.mean + difference * (b.count / count), a.scatter + b.scatter + between)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2), the squared 2-Wasserstein distance of two Gaussians.

    At least 0; NaN if a feature is not finite. S_a^1/2 S_b S_a^1/2 is symmetric: the trace of its root is the sum of
    the roots of its eigenvalues. The root of an asymmetric matrix, which would be complex, and inexact for a singular
    covariance, is not needed. UserError for fewer images than features: the covariance is then always singular and the
    distance reflects the number of images.
    Source: Dowson and Landau 1982; Heusel et al., "GANs trained by a two time-scale update rule", 2017, equation (6).
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"frechet_distance: features {a.mean.shape} and {b.mean.shape} must have equal shapes")
    _enough(min(a.count, b.count), len(a.mean))
    if not np.isfinite([a.scatter, b.scatter]).all():
        return float("nan")
    variances, axes = np.linalg.eigh(a.covariance)
    root = axes * np.sqrt(np.maximum(variances, 0))  # root root^T = S_a: root^T S_b root has the same eigenvalues
    eigenvalues = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    overlap = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    distance = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    return float(max(distance, 0.0))


class Features(NamedTuple):
    """The features that the distance compares: a tap of a frozen network, averaged over space."""

    network: str = "alexnet"  # in BACKBONES
    tap: str = "relu5"

    def distance_name(self, image_size: int, images: int) -> str:
        """The name of the distance: 'FD-alexnet relu5 64x64 N=600'."""
        return f"{FRECHET}{self.network} {self.tap} {image_size}x{image_size} N={images}"

    def width(self, image_shape: tuple[int, int, int]) -> int:
        """The number of features of an image [H, W, C]; UserError if the network does not take such images."""
        backbone = get_backbone(self.network, (self.tap,), min(image_shape[:2]))
        weights = jax.eval_shape(lambda: backbone.init(jax.random.key(0), (self.tap,)))
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        try:
            return jax.eval_shape(lambda w, x: backbone.apply(w, x, (self.tap,)), weights, images)[self.tap].shape[-1]
        except ValueError as error:
            raise UserError(f"{self.network} does not take these images: {error}.") from None

    def check(self, image_shape: tuple[int, int, int], images: int) -> None:
        """UserError unless the distance is defined for this many images [H, W, C]."""
        _enough(images, self.width(image_shape))

    def obstacle(self, image_shape: tuple[int, int, int], images: int) -> str:
        """Why the distance of this many images [H, W, C] cannot be computed, as a sentence; '' if it can."""
        if not has_weights(self.network):
            return f"No weights for {self.network}."
        try:
            self.check(image_shape, images)
        except UserError as error:
            return str(error)
        return ""

    def load(self) -> Embed:
        """The network, with its weights: images [B, H, W, C] in [0, 1] -> spatial means of the tap, [B, d]."""
        backbone, weights = get_backbone(self.network, (self.tap,)), load_backbone(self.network, taps=(self.tap,))

        @jax.jit
        def embed(weights: Any, images: jax.Array) -> jax.Array:
            features = backbone.apply(weights, images, (self.tap,))[self.tap]
            return features.mean(axis=tuple(range(1, features.ndim - 1)))

        return lambda images: np.asarray(embed(weights, images))


def read_features(text: str) -> Features:
    """The features named 'NETWORK/TAP'; UserError if the network, its tap or its weights do not exist."""
    network, _, tap = text.partition("/")
    if not tap:
        raise UserError(f"--frechet is {text!r}; expected NETWORK/TAP, such as vgg16/relu5_3.")
    get_backbone(network, (tap,))
    find_weights(network)
    return Features(network, tap)


def set_moments(embed: Embed, images: Callable[[np.ndarray], jax.Array], size: int, batch_size: int) -> Moments:
    """The moments of the features of `size` images; `images` returns those with the indices [B]."""
    indices, mask = padded_indices(size, min(batch_size, size))
    return functools.reduce(merge, (moments(embed(images(i))[kept]) for i, kept in zip(indices, mask, strict=True)))


def _enough(images: int, features: int) -> None:
    if images < features:
        raise UserError(
            f"A Fréchet distance by {features:,} features needs at least as many images in each set, not {images:,}: "
            "judge more images, or choose a tap with fewer features."
        )
