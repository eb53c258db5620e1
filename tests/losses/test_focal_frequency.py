"""The focal frequency loss: equal to its authors' package, and without focus to the mean squared error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import rival_images
from helpers.checks import assert_golden, value_and_gradient

from vae_jax.errors import UserError
from vae_jax.losses import focal_frequency

OPTIONS = {
    "focal_frequency": {},
    "focal_frequency_patches": {"patch_factor": 2, "alpha": 0.5},
    "focal_frequency_log": {"log_matrix": True, "alpha": 2.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_equal_to_the_package(name):
    """focal-frequency-loss 0.3.0; its weight has no gradient, and its axes are those of NCHW."""
    assert_golden(name, lambda x, y: focal_frequency(x, y, **OPTIONS[name]), rival_images((12, 18)), rtol=2e-5)


def test_without_focus_it_is_the_mean_squared_error(images):
    """Parseval: alpha 0 weights all frequencies by 1, in patches or not."""
    for factor in (1, 2):
        value = focal_frequency(images[0][:, :, :16], images[1][:, :, :16], alpha=0.0, patch_factor=factor)
        expected = ((images[0][:, :, :16] - images[1][:, :, :16]) ** 2).mean((1, 2, 3))
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_one_frequency_by_hand():
    """A difference of one wave along the width: its two coefficients have weight 1, the others do not differ.

    The mean of |F|^2 is that of the squared wave, amplitude^2 / 2, over the three channels, of which one differs.
    """
    wave = 0.25 * np.cos(2 * np.pi * 3 * np.arange(16) / 16)
    target = np.full((1, 10, 16, 3), 0.5, np.float32)
    recon = target.copy()
    recon[..., 1] += wave
    np.testing.assert_allclose(focal_frequency(target, recon), [0.25**2 / 2 / 3], rtol=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_degenerate_points(options, images):
    """Equal and constant images: zero if they are equal, gradients finite and small."""
    target = images[0][:, :, :16]
    constant = jnp.full(target.shape, 0.5)
    loss = jax.jit(lambda x, y: focal_frequency(x, y, **options))
    for a, b in ((target, target), (constant, constant), (target, constant), (constant, 0 * constant)):
        values, gradient = value_and_gradient(loss, a, b)
        assert np.isfinite(values).all() and np.abs(gradient).max() < 1
        assert (values == 0).all() == (a is b)


def test_what_does_not_fit(images):
    with pytest.raises(ValueError, match="equal shapes"):
        focal_frequency(images[0], images[1][:, :-1])
    for factor in (3, 0, 1.5):
        with pytest.raises(UserError, match="patch_factor.* does not divide images of 14x17"):
            focal_frequency(*images, patch_factor=factor)
    with pytest.raises(UserError, match="alpha is -1.0; expected an exponent"):
        focal_frequency(*images, alpha=-1.0)


def test_its_axes_are_height_and_width(images):
    """Transposed images have the same loss, and so have images with swapped channels: no transform over channels."""
    expected = focal_frequency(*images)
    np.testing.assert_allclose(focal_frequency(*(x.swapaxes(1, 2) for x in images)), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(focal_frequency)(*(x[..., ::-1] for x in images)), expected, rtol=1e-5)
