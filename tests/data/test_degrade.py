"""Degradation and its baselines against Pillow and scipy, on real photographs that are not square."""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

from vae_jax.data.degrade import bicubic, degrade, nearest_neighbour


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Two windows of the photographs that come with scikit-learn: [2, 96, 136, 3] in [0, 1]."""
    windows = [image[140:236, 200:336] for image in load_sample_images().images]
    return np.stack(windows).astype(np.float32) / 255


def by_pillow(image: np.ndarray, size: tuple[int, int], kind: Image.Resampling) -> np.ndarray:
    """Channel by channel, as floats: [h, w, C] -> [*size, C]."""
    planes = [Image.fromarray(plane).resize(size[::-1], kind) for plane in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("sigma", [1.0, 1.6])
def test_degrading_is_scipys_blur_and_pillows_bicubic(photographs, factor, sigma):
    blurred = ndimage.gaussian_filter(photographs.astype(np.float64), (0, sigma, sigma, 0)).astype(np.float32)
    size = 96 // factor, 136 // factor
    expected = np.stack([by_pillow(image, size, Image.Resampling.BICUBIC) for image in blurred]).clip(0, 1)
    low = jax.jit(degrade, static_argnums=(1, 2))(photographs, factor, sigma)
    assert low.shape == (2, *size, 3)
    np.testing.assert_allclose(low, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_baselines_are_pillows(photographs, factor):
    low = photographs[:, ::5, ::7]  # [2, 20, 20, 3], sharp enough to overshoot
    low = low[:, :, :13]
    size = 20 * factor, 13 * factor
    for ours, kind in ((bicubic, Image.Resampling.BICUBIC), (nearest_neighbour, Image.Resampling.NEAREST)):
        expected = np.stack([by_pillow(image, size, kind) for image in low])
        np.testing.assert_allclose(ours(low, factor), expected, rtol=0, atol=2e-6)


def test_the_low_image_stays_in_range():
    """A white square on black makes the bicubic kernel overshoot."""
    image = np.zeros((1, 32, 48, 1), np.float32)
    image[:, 10:21, 14:30] = 1
    low = degrade(image, 4, 0.1)
    assert float(low.min()) == 0 and float(low.max()) == 1


def test_sides_that_the_factor_does_not_divide():
    with pytest.raises(ValueError, match="4 does not divide both sides of 8x10 images"):
        degrade(np.zeros((1, 8, 10, 3), np.float32), 4, 1.0)
