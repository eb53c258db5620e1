"""The sharpness losses against the document's own recipe: eight fixed 3x3 filters and a maximum, by TensorFlow."""

import numpy as np
import pytest
from helpers.checks import assert_equal, tf_value_and_gradient, value_and_gradient

from vae_jax.errors import UserError
from vae_jax.losses import IMAGE_TERMS, sharpness


def filters() -> np.ndarray:
    """[3, 3, 1, 8]: -1 at the centre, +1 at one of the eight neighbours."""
    kernels = np.zeros((9, 9), np.float32)
    kernels[np.arange(9), np.arange(9)] = 1
    kernels[:, 4] -= 1
    return np.delete(kernels, 4, axis=0).T.reshape(3, 3, 1, 8)


def by_the_filters(variation):
    """(target, recon) -> [B] as the document writes it, every channel as a separate image."""
    tf = pytest.importorskip("tensorflow")

    def variations(images):
        batch, height, width, channels = images.shape
        grey = tf.reshape(tf.transpose(images, (0, 3, 1, 2)), (batch * channels, height, width, 1))
        eight = tf.nn.conv2d(grey, filters(), 1, "VALID")
        m = tf.reduce_max(eight, -1) if variation != "square" else tf.reduce_mean(eight**2, -1)
        m = tf.reshape(m, (batch, -1))
        return tf.reduce_mean(m, 1, keepdims=True) if variation == "mean" else m

    return lambda target, recon: tf.reduce_sum((variations(target) - variations(recon)) ** 2, 1)


@pytest.mark.parametrize("variation", ["mean", "maximum", "square"])
def test_by_the_filters(variation, images):
    """Values and gradients, TensorFlow 2.21, also where several neighbours share the maximum."""
    target, recon = images
    recon[:, 4:7, 5:9] = 0.5
    ours = value_and_gradient(lambda t, r: sharpness(t, r, variation=variation), target, recon)
    assert_equal(ours, tf_value_and_gradient(by_the_filters(variation), target, recon))
    assert np.abs(ours[1]).max() > 0


def test_by_hand():
    """One bright pixel of 5x4: m is 1 at its inner neighbours and -1 at itself; if it is lost, each counts once."""
    target, flat = np.zeros((2, 1, 5, 4, 1), np.float32)
    target[0, 1, 1] = 1.0  # inner pixels are rows 1..3, columns 1..2
    m = np.array([[-1, 1], [1, 1], [0, 0]])
    np.testing.assert_allclose(sharpness(target, flat), [np.square(m).sum()])
    np.testing.assert_allclose(sharpness(target, flat, reduction="mean"), [np.square(m).mean()], rtol=1e-6)
    np.testing.assert_allclose(sharpness(target, flat, variation="mean"), [m.mean() ** 2], rtol=1e-6)
    squares = np.array([[1, 1 / 8], [1 / 8, 1 / 8], [0, 0]])
    np.testing.assert_allclose(sharpness(target, flat, variation="square"), [np.square(squares).sum()], rtol=1e-6)


@pytest.mark.parametrize("variation", ["mean", "maximum", "square"])
def test_at_the_target_itself(variation, images):
    values, gradient = value_and_gradient(lambda t, r: sharpness(t, r, variation=variation), images[0], images[0])
    assert not values.any() and not gradient.any()


def test_what_does_not_fit(images):
    with pytest.raises(ValueError, match="equal shapes"):
        sharpness(images[0], images[1][:, :, :, :1])
    with pytest.raises(ValueError, match="at least 3x3"):
        sharpness(images[0][:, :2], images[1][:, :2])
    with pytest.raises(UserError, match=r"terms.sharpness.variation 'maximal'.*maximum"):
        IMAGE_TERMS["sharpness"](*images, variation="maximal")
