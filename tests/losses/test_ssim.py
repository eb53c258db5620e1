"""SSIM and MS-SSIM as losses: equal to pytorch-msssim and TensorFlow, finite where a power of zero is not.

The metric SSIM is compared with scikit-image in tests/metrics/test_metrics.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import rival_images
from helpers.checks import assert_equal, assert_golden, tf_value_and_gradient, value_and_gradient

from vae_jax.errors import UserError
from vae_jax.losses import IMAGE_TERMS, ms_ssim, ssim
from vae_jax.losses.ssim import scale_count
from vae_jax.metrics import METRICS


@pytest.mark.parametrize(("name", "size"), [("ssim", (20, 26)), ("ms_ssim", (176, 192))])
def test_equal_to_pytorch_msssim(name, size):
    """pytorch-msssim 1.0.0 in float64, at sizes where it does not zero-pad odd sides."""
    assert_golden(name, IMAGE_TERMS[name], rival_images(size))


def test_below_zero_a_gradient_leads_back():
    """The negative of a texture is no match, and further below 0 is worse: by the definition both would be rewarded.
    Flat white windows: the tangent of (2 y + c1) / (1 + y^2 + c1) at y = 0."""
    texture = jnp.asarray(np.random.default_rng(0).uniform(0.2, 1, (1, 12, 16, 3)), jnp.float32)
    for loss in (ssim, ms_ssim):
        assert loss(texture, -texture)[0] >= 1
    assert ssim(texture, -2 * texture)[0] > ssim(texture, -texture)[0] > ssim(texture, 0 * texture)[0]
    white, c1 = jnp.ones((1, 12, 16, 3)), 1e-4
    for y in (-2.0, -0.5):
        value, gradient = jax.value_and_grad(lambda recon: ssim(white, recon)[0])(jnp.full_like(white, y))
        np.testing.assert_allclose(value, 1 - (2 * y + c1) / (1 + c1), rtol=1e-5)
        np.testing.assert_allclose(gradient.sum(), -2 / (1 + c1), rtol=1e-5)


def test_ssim_is_tensorflow():
    tf = pytest.importorskip("tensorflow")
    images = rival_images((19, 24))
    theirs = tf_value_and_gradient(lambda x, y: 1 - tf.image.ssim(x, y, 1.0), *images)
    assert_equal(value_and_gradient(jax.jit(ssim), *images), theirs, rtol=2e-5)


@pytest.mark.parametrize(("size", "count"), [((163, 181), 5), ((21, 30), 2)])
def test_ms_ssim_is_tensorflow(size, count):
    """tf.image.ssim_multiscale with the first weights renormalised, on sides that are odd at several scales."""
    tf = pytest.importorskip("tensorflow")
    images = rival_images(size)
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:count]
    if count < 5:
        weights = [weight / sum(weights) for weight in weights]
    theirs = tf_value_and_gradient(lambda x, y: 1 - tf.image.ssim_multiscale(x, y, 1.0, power_factors=weights), *images)
    assert scale_count(*size) == count
    assert_equal(value_and_gradient(jax.jit(ms_ssim), *images), theirs, rtol=5e-5)


def test_scales_by_size():
    assert [scale_count(side, 400) for side in (11, 20, 21, 40, 41, 80, 81, 160, 161, 400)] == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
    ]


def test_metrics_are_one_minus_the_losses():
    images = rival_images((22, 25))
    for name in ("ssim", "ms_ssim"):
        np.testing.assert_allclose(jax.jit(METRICS[name])(*images), 1 - jax.jit(IMAGE_TERMS[name])(*images), rtol=1e-6)


def test_negative_contrast_is_clipped():
    """Inverted images: every covariance is negative, so that MS-SSIM is 0 and a power's gradient would be NaN."""
    target, _ = rival_images((22, 25))
    values, gradient = value_and_gradient(jax.jit(ms_ssim), target, 1 - target)
    np.testing.assert_array_equal(values, 1.0)
    np.testing.assert_array_equal(gradient, 0.0)
    assert (jax.jit(ssim)(target, 1 - target) > 1).all()


@pytest.mark.parametrize("term", [jax.jit(ssim), jax.jit(ms_ssim)], ids=["ssim", "ms_ssim"])
def test_degenerate_points(term):
    """Equal images and constant ones: finite values, small gradients, zero loss if they are equal."""
    noise, _ = rival_images((22, 25))
    for target, recon in ((noise, noise), *((np.full_like(noise, t), np.full_like(noise, 0.3)) for t in (0, 0.3, 1))):
        values, gradient = value_and_gradient(term, target, recon)
        assert np.isfinite(values).all() and np.abs(gradient).max() < 1
        if np.array_equal(target, recon):
            np.testing.assert_allclose(values, 0, atol=1e-6)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_what_does_not_fit(name):
    with pytest.raises(ValueError, match="equal shapes"):
        IMAGE_TERMS[name](jnp.zeros((2, 20, 20, 3)), jnp.zeros((2, 20, 20, 1)))
    with pytest.raises(UserError, match=f"{name} uses windows of 11x11 pixels.* 10x20"):
        IMAGE_TERMS[name](jnp.zeros((2, 10, 20, 3)), jnp.zeros((2, 10, 20, 3)))
