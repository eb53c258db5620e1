"""The sizes of loss terms between different images, compared with NumPy."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vae_jax.config import image_shape
from vae_jax.data import load_dataset
from vae_jax.errors import UserError
from vae_jax.scales import _partners, scales


def test_means_over_different_images(smoke):
    """With one image more than partners, every ordered pair occurs once: the mean of all pairs, by NumPy."""
    config = smoke("sharp_vae_mnist")
    config.terms.l1 = {"weight": 2.0, "start": 0, "warmup": 0}
    config.terms.l2 = {"weight": 0.5, "start": 0, "warmup": 0}
    found = {scale.term: scale for scale in scales(config.lock(), 6)}
    assert set(found) == {"bce", "sharpness", "l1", "l2"}
    dataset = load_dataset(config, "train")
    x = dataset.read(np.linspace(0, dataset.size - 1, 6).astype(int))["image"].reshape(6, -1) / 255
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    absolute = np.mean([np.abs(x[i] - x[j]).sum() for i, j in pairs])
    squared = np.mean([np.square(x[i] - x[j]).sum() for i, j in pairs])
    np.testing.assert_allclose(found["l1"].distance, absolute, rtol=1e-5)
    np.testing.assert_allclose(found["l1"].like_l2, 0.5 * squared / absolute, rtol=1e-5)
    assert found["l1"].weight == 2.0
    np.testing.assert_allclose([found["l2"].distance, found["l2"].like_l2], [squared, 0.5], rtol=1e-5)
    images = np.float32(x).reshape(6, *image_shape(config))
    blurred = np.stack([gaussian_filter(image, (2, 2, 0)) for image in images])
    absolute, squared = np.abs(images - blurred).sum() / 6, np.square(images - blurred).sum() / 6
    np.testing.assert_allclose([found["l1"].blur, found["l2"].blur], [absolute, squared], rtol=1e-5)
    np.testing.assert_allclose(found["l1"].blur_like_l2, 0.5 * squared / absolute, rtol=1e-5)


def test_no_image_is_its_own_partner():
    for count in (2, 3, 11):
        partners = np.stack(_partners(count))
        assert not np.any(partners == np.arange(count))
        assert all(sorted(row) == list(range(count)) for row in partners)
        assert len({tuple(row) for row in partners}) == len(partners) == min(5, count - 1)


def test_too_many_images(smoke):
    with pytest.raises(UserError, match=r"--images is 1; expected 2 to [\d,]+, the size of split train"):
        scales(smoke("vae_mnist").lock(), 1)
