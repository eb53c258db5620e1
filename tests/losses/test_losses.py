"""Every loss against an independent oracle: TensorFlow, Keras, or the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import assert_equal, tf_value_and_gradient, value_and_gradient

from vae_jax.losses import IMAGE_TERMS, TERMS, bce, cross_entropy, feature, kl, l1, l2

PIXEL_TERMS = {name: IMAGE_TERMS[name] for name in ("bce", "l1", "l2")}  # lpips has its own test file


def test_bce_is_keras(images):
    """keras.ops.binary_crossentropy, summed over the pixels as the article does (Keras 3, TensorFlow 2.21)."""
    tf = pytest.importorskip("tensorflow")
    target, recon = images
    recon[0, 0, 0] = [0.0, 1.0, 0.5]  # clipped
    flat = lambda x: tf.reshape(x, (x.shape[0], -1))  # noqa: E731
    oracle = tf_value_and_gradient(
        lambda t, r: tf.reduce_sum(tf.keras.ops.binary_crossentropy(flat(t), flat(r)), -1), target, recon
    )
    assert_equal(value_and_gradient(bce, target, recon), oracle)


def test_l1_and_l2_by_tensorflow(images):
    tf = pytest.importorskip("tensorflow")
    axes = (1, 2, 3)
    assert_equal(
        value_and_gradient(l1, *images), tf_value_and_gradient(lambda t, r: tf.reduce_sum(tf.abs(t - r), axes), *images)
    )
    assert_equal(
        value_and_gradient(l2, *images), tf_value_and_gradient(lambda t, r: tf.reduce_sum((t - r) ** 2, axes), *images)
    )


@pytest.mark.parametrize("term", PIXEL_TERMS.values(), ids=PIXEL_TERMS)
def test_mean_is_sum_over_pixels(term, images):
    np.testing.assert_allclose(
        term(*images, reduction="mean"), term(*images, reduction="sum") / (14 * 17 * 3), rtol=1e-6
    )


def test_kl_is_the_integral():
    """The definition, E_q[log q - log p], by quadrature on a fine grid (scipy 1.17)."""
    from scipy import integrate, stats

    mean, logvar = np.array([0.7, -1.5]), np.array([-1.0, 0.8])

    def divergence(m, v):
        q = stats.norm(m, np.exp(v / 2))
        return integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - stats.norm.logpdf(x)), m - 12, m + 12)[0]

    expected = sum(divergence(m, v) for m, v in zip(mean, logvar, strict=True))
    np.testing.assert_allclose(kl(jnp.float32(mean)[None], jnp.float32(logvar)[None]), [expected], rtol=1e-5)


def test_kl_gradients_by_hand():
    """d/dmean = mean, d/dlogvar = (exp(logvar) - 1) / 2."""
    mean, logvar = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    gradients = jax.grad(lambda m, v: kl(m, v).sum(), (0, 1))(mean, logvar)
    assert_equal(gradients, (mean, (np.exp(logvar) - 1) / 2))
    assert kl(mean, logvar).shape == (3,)
    assert float(kl(jnp.zeros((1, 5)), jnp.zeros((1, 5)))[0]) == 0


def test_cross_entropy_is_keras():
    tf = pytest.importorskip("tensorflow")
    logits = 3 * np.random.default_rng(2).normal(size=(6, 10)).astype(np.float32)
    labels = np.arange(6, dtype=np.int32)
    ours = value_and_gradient(lambda logits: cross_entropy(logits, labels), logits)
    theirs = tf_value_and_gradient(
        lambda logits: tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True), logits
    )
    assert_equal(ours, theirs)


@pytest.fixture
def two_taps():
    rng = np.random.default_rng(3)
    target, recon = ({"a": rng.normal(size=(2, 5, 7, 3)), "b": rng.normal(size=(2, 2, 3, 4))} for _ in range(2))
    return jax.tree.map(np.float32, target), jax.tree.map(np.float32, recon)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_feature_by_hand(two_taps, reduction):
    """sum_i w_i ||difference||^2, and its gradient 2 w_i (xhat - x), divided by the tap's size for the mean."""
    target, recon = two_taps
    weights = {"a": 0.5, "b": 2.0}
    size = {"a": 1, "b": 1} if reduction == "sum" else {"a": 5 * 7 * 3, "b": 2 * 3 * 4}

    def ours(recon):
        return feature(target, recon, tap_weights=tuple(weights.values()), reduction=reduction)

    expected = sum(w / size[t] * ((recon[t] - target[t]) ** 2).reshape(2, -1).sum(1) for t, w in weights.items())
    np.testing.assert_allclose(ours(recon), expected, rtol=1e-5)
    gradient = jax.grad(lambda r: ours(r).sum())(recon)
    for tap, weight in weights.items():
        np.testing.assert_allclose(gradient[tap], 2 * weight / size[tap] * (recon[tap] - target[tap]), rtol=1e-5)


def test_feature_names_what_does_not_fit(two_taps):
    target, recon = two_taps
    with pytest.raises(ValueError, match="tap weights"):
        feature(target, recon, tap_weights=(1.0,))
    with pytest.raises(ValueError, match="taps"):
        feature(target, {"a": recon["a"]})
    with pytest.raises(ValueError, match="feature b"):
        feature(target, recon | {"b": recon["a"]})


@pytest.mark.parametrize("name", [*PIXEL_TERMS, "kl"])
def test_shapes_must_be_equal(name):
    with pytest.raises(ValueError, match="equal shapes"):
        TERMS[name](jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 4)))


def test_cross_entropy_shapes():
    for logits, labels in ((jnp.zeros((3, 10)), jnp.zeros((3, 1), int)), (jnp.zeros(10), jnp.zeros(10, int))):
        with pytest.raises(ValueError, match="cross_entropy"):
            cross_entropy(logits, labels)


def test_gradients_at_degenerate_points():
    """All-zero features, equal features, the prior itself, extreme logits: finite, and small or zero."""
    zeros = {"a": jnp.zeros((2, 3, 4, 5))}
    for target, recon in ((zeros, zeros), ({"a": 1 + zeros["a"]}, {"a": 1 + zeros["a"]})):
        gradient = jax.grad(lambda r, t=target: feature(t, r).sum())(recon)
        assert not np.any(gradient["a"])
    gradients = jax.grad(lambda m, v: kl(m, v).sum(), (0, 1))(jnp.zeros((2, 5)), jnp.zeros((2, 5)))
    assert not np.any(gradients)
    logits = jnp.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    values, gradient = value_and_gradient(lambda logits: cross_entropy(logits, jnp.array([1, 2])), logits)
    assert np.isfinite(values).all() and np.abs(gradient).max() <= 2


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("term", PIXEL_TERMS.values(), ids=PIXEL_TERMS)
def test_gradients_are_bounded_for_equal_images(term, value):
    """At x = xhat, also at the ends of the range: finite, and no larger than bce's 1 / epsilon."""
    image = jnp.full((2, 3, 5, 1), value)
    value, gradient = value_and_gradient(term, image, image)
    assert np.isfinite(value).all() and np.abs(gradient).max() <= 2e7


@pytest.mark.parametrize("name", IMAGE_TERMS)
def test_equal_images_are_a_minimum(name):
    """No gradient at x = xhat, as PyTorch has none (its sign(0) is 0): on flat images and on others, to rounding."""
    noise = np.random.default_rng(0).uniform(0.01, 0.99, (1, 12, 12, 1)).astype(np.float32)
    image = np.concatenate([noise, np.full((1, 12, 12, 1), 0.5, np.float32)])
    _, gradient = value_and_gradient(IMAGE_TERMS[name], image, image)
    np.testing.assert_allclose(gradient, 0, atol=0 if name in ("l1", "l2", "sharpness", "robust") else 1e-7)
