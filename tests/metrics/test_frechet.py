"""The Fréchet distance against scipy's matrix root, closed forms and plain numpy."""

import functools

import jax
import numpy as np
import pytest
from helpers.frechet import SMALL, by_singular_values, means
from scipy.linalg import sqrtm

from vae_jax import backbones
from vae_jax.errors import UserError
from vae_jax.metrics.frechet import Features, frechet_distance, merge, moments, read_features, set_moments
from vae_jax.weights.files import save_weights


def textbook(a, b):
    """|m - m'|^2 + tr(S + S' - 2 (S S')^1/2), with numpy's covariances and scipy's root of the product."""
    a, b = (np.asarray(features, np.float64) for features in (a, b))
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(first @ second)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first + second - 2 * root.real)


def correlated(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def distance(a, b):
    return frechet_distance(moments(a), moments(b))


def test_the_textbook_formula():
    """Correlated features, more samples than dimensions, sets of different sizes."""
    for d, n, m in ((1, 5, 9), (7, 40, 23), (30, 31, 200)):
        a, b = correlated(d, n, d), correlated(d + 1, m, d)
        univariate = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
        expected = univariate if d == 1 else textbook(a, b)
        np.testing.assert_allclose(distance(a, b), expected, rtol=1e-9)
        np.testing.assert_allclose(distance(b, a), expected, rtol=1e-9)


def test_singular_covariances():
    """Features in one subspace, where the distance is that of their coordinates; in two; all the same."""
    a, b = correlated(0, 50, 6), correlated(1, 40, 6)
    basis = np.linalg.qr(np.random.default_rng(2).normal(size=(15, 15)))[0]
    np.testing.assert_allclose(distance(a @ basis[:6], b @ basis[:6]), textbook(a, b), rtol=1e-6)
    one, other = a @ basis[:6], b @ basis[4:10]
    np.testing.assert_allclose(distance(one, other), by_singular_values(one, other), rtol=1e-6)
    dead = np.zeros((20, 15))
    np.testing.assert_allclose(distance(dead, dead + 2), 15 * 4)


def test_equal_sets_and_gaussians_in_closed_form():
    """Samples whitened and scaled to have exactly these means and deviations: |m - m'|^2 + sum (s - s')^2."""
    white = correlated(3, 64, 5)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(white, rowvar=False)), (white - white.mean(0)).T).T
    shift, one, other = np.array([3.0, 0, -1, 0.5, 2]), np.array([1, 2, 0.5, 4, 1]), np.array([2, 2, 1.5, 1, 0.1])
    np.testing.assert_allclose(distance(white * one, white * one + shift), np.sum(shift**2), rtol=1e-9)
    expected = np.sum(shift**2) + np.sum((one - other) ** 2)
    np.testing.assert_allclose(distance(white * one, white[::-1] * other + shift), expected, rtol=1e-9)
    features = correlated(4, 300, 100)
    assert 0 <= distance(features, features[::-1]) < 1e-9 * np.trace(np.cov(features, rowvar=False))


def test_parts_merged_are_the_whole():
    """Parts of any size in any order, with means far from zero; float32 features are summed in float64."""
    features = (correlated(5, 101, 8) + 1e4).astype(np.float32)
    parts = [moments(part) for part in np.split(features, [1, 4, 50, 90])]
    whole = features.astype(np.float64)
    for order in ((0, 1, 2, 3, 4), (4, 0, 3, 1, 2)):
        merged = functools.reduce(merge, [parts[i] for i in order])
        assert merged.count == 101 and merged.mean.dtype == merged.scatter.dtype == np.float64
        np.testing.assert_allclose(merged.mean, whole.mean(0), rtol=1e-14)
        np.testing.assert_allclose(merged.covariance, np.cov(whole, rowvar=False), rtol=1e-8, atol=1e-8)
    pairs = merge(merge(parts[0], parts[1]), merge(merge(parts[2], parts[3]), parts[4]))
    np.testing.assert_allclose(pairs.scatter, merged.scatter, rtol=1e-8, atol=1e-6)


def test_sets_without_a_distance():
    with pytest.raises(UserError, match="by 10 features needs at least as many images in each set, not 9"):
        distance(correlated(0, 20, 10), correlated(1, 9, 10))
    with pytest.raises(ValueError, match="equal shapes"):
        distance(correlated(0, 20, 10), correlated(1, 20, 9))
    with pytest.raises(ValueError, match="features .n, d."):
        moments(np.zeros(5))
    broken = correlated(0, 20, 3)
    broken[4, 1] = np.nan
    assert np.isnan(distance(correlated(1, 20, 3), broken))


def test_features_of_a_network_in_uneven_batches(tmp_path, monkeypatch):
    """Colour images that are not square, 75 in batches of 32, through an untrained AlexNet from a weights file."""
    tree = jax.device_get(backbones.BACKBONES["alexnet"].init(jax.random.key(0), ("relu1",)))
    save_weights(tmp_path / "alexnet.safetensors", tree, {})
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    features, rng = Features("alexnet", "relu1"), np.random.default_rng(0)
    images, others = rng.uniform(size=(2, 75, 14, 17, 3)).astype(np.float32) ** np.array([1, 2]).reshape(2, 1, 1, 1, 1)
    assert features.width((14, 17, 3)) == 64 and features.obstacle((14, 17, 3), 75) == ""
    embed = features.load()
    a, b = (set_moments(embed, lambda i, x=x: x[i].astype(np.float32), 75, 32) for x in (images, others))
    assert a.count == b.count == 75
    one, other = (means(features, x.astype(np.float32)) for x in (images, others))
    np.testing.assert_allclose(a.mean, one.mean(0), rtol=1e-5)
    expected = textbook(one, other)
    assert expected > 0.1 * np.trace(a.covariance)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-4)


def test_alexnet_of_real_weights(real_weights, monkeypatch):
    """260 images of 32x40 through the published convolutions: relu5, with 256 features, against plain numpy."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(real_weights))
    rng, features = np.random.default_rng(0), Features()
    images = rng.uniform(size=(260, 8, 10, 3)).repeat(4, 1).repeat(4, 2).astype(np.float32)
    darker = 0.7 * images
    a, b = (set_moments(features.load(), lambda i, x=x: x[i], 260, 130) for x in (images, darker))
    expected = textbook(*(means(features, x) + 1e-9 * rng.normal(size=(260, 256)) for x in (images, darker)))
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-3)


def test_why_there_is_no_distance():
    """A sentence when it is left out by default, an error when it is asked for."""
    assert Features().obstacle((64, 64, 3), 600) == "No weights for alexnet."
    assert "at least as many images in each set, not 63" in SMALL.obstacle((28, 28, 1), 63)
    assert SMALL.obstacle((28, 28, 1), 64) == "" and "at least 18" in SMALL.obstacle((16, 28, 1), 64)
    assert "takes grey images" in SMALL.obstacle((28, 28, 3), 64)
    assert read_features("mnist_classifier/relu3") == SMALL
    for text, message in (
        ("alexnet", "expected NETWORK/TAP"),
        ("alexnt/relu5", "Did you mean 'alexnet'"),
        ("alexnet/rel5", "Did you mean 'relu5'"),
        ("alexnet/relu5", "No weights for alexnet: alexnet.safetensors is in neither"),
    ):
        with pytest.raises(UserError, match=message):
            read_features(text)
