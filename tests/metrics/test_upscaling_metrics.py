"""PSNR and SSIM of super-resolution against scikit-image, on photographs."""

import numpy as np
import pytest
from helpers.upscaling import judged_by_scikit_image, low_by_hand, photographs, resized

from vae_jax.metrics import METRICS, default_metrics
from vae_jax.metrics.upscaling import UPSCALING, luma


@pytest.mark.parametrize("name", UPSCALING)
def test_the_protocol_by_scikit_image(name):
    """On photographs that are not square, downsampled and restored by bicubic resampling."""
    target = photographs(44, 60).astype(np.float32) / 255
    recon = np.stack([resized(low, (44, 60)) for low in low_by_hand(target, 4)]).clip(0, 1)
    expected = [judged_by_scikit_image(name)(t, r) for t, r in zip(target, recon, strict=True)]
    values = METRICS[name](target, recon)
    assert values.shape == (6,)
    np.testing.assert_allclose(values, expected, rtol=2e-5)
    assert np.isfinite(METRICS[name](target, target)).all()
    with pytest.raises(ValueError, match="equal shapes"):
        METRICS[name](target, recon[:, :-1])


def test_the_border_and_colours_do_not_count():
    """psnr_y ignores another border and other colours of the same luma; black and white are 16 and 235."""
    target = np.random.default_rng(0).uniform(0.2, 0.8, (2, 20, 24, 3)).astype(np.float32)
    other = target + np.float32(0.1) * np.array([24.966, 0, -65.481], np.float32) / np.float32(65.481)
    other[:, :2] = other[:, -2:] = other[:, :, :2] = other[:, :, -2:] = 0
    np.testing.assert_allclose(METRICS["psnr_y_x2"](target, other), 100, atol=1e-3)
    assert np.all(METRICS["psnr_rgb_x2"](target, other) < 30)
    for colours in (3, 1):
        ends = np.stack([np.zeros((1, 1, colours)), np.ones((1, 1, colours))]).astype(np.float32)
        np.testing.assert_allclose(255 * luma(ends).ravel(), [16, 235], rtol=1e-6)
    assert not set(UPSCALING) & set(default_metrics(64))
