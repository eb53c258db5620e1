"""The article's networks: published sizes, and examples that do not affect one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.backbones import BACKBONES, features, get_backbone
from vae_jax.errors import UserError
from vae_jax.models.mnist import MnistClassifier, MnistDecoder, MnistEncoder


def count(variables) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_parameters_as_published():
    """494,442, 94,017 and 93,322 from the layer sizes of krasserm/bayesian-machine-learning."""
    key, image = jax.random.key(0), jnp.zeros((2, 28, 28, 1))
    assert count(jax.eval_shape(MnistEncoder(5).init, key, image)) == 494_442
    assert count(jax.eval_shape(MnistDecoder((28, 28, 1)).init, key, jnp.zeros((2, 5)))) == 94_017
    assert count(jax.eval_shape(MnistClassifier().init, key, image)) == 93_322


@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 18, 3)])
def test_shapes_even_odd_and_in_colour(shape):
    key = jax.random.key(0)
    (mean, logvar), _ = jax.eval_shape(MnistEncoder(7).init_with_output, key, jnp.zeros((2, *shape)))
    assert mean.shape == logvar.shape == (2, 7)
    image, _ = MnistDecoder(shape).init_with_output(key, jax.random.normal(key, (2, 7)))
    assert image.shape == (2, *shape)
    assert float(image.min()) > 0 and float(image.max()) < 1


def test_taps_of_the_classifier():
    """`conv2d_6` and `conv2d_7` of the article: 26x26x32 and 11x11x64."""
    backbone = BACKBONES["mnist_classifier"]
    weights = backbone.init(jax.random.key(0), ())
    taps = backbone.apply(weights, jnp.zeros((2, 28, 28, 1)), backbone.taps)
    shapes = {"relu1": (26, 26, 32), "relu2": (11, 11, 64), "relu3": (3, 3, 64), "relu4": (64,), "logits": (10,)}
    assert {tap: value.shape[1:] for tap, value in taps.items()} == shapes
    assert list(backbone.apply(weights, jnp.zeros((1, 18, 20, 1)), ("relu2", "relu1"))) == ["relu2", "relu1"]


def test_features_find_their_weights():
    images = np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32)
    together = features("mnist_classifier", images)
    alone = features("mnist_classifier", images[1:2], ("relu2",))
    np.testing.assert_allclose(together["relu2"][1:2], alone["relu2"], rtol=1e-5, atol=1e-6)
    assert (np.asarray(together["relu1"]) >= 0).all()


def test_backbones_name_what_does_not_match():
    with pytest.raises(UserError, match="Did you mean 'mnist_classifier'"):
        get_backbone("mnist_clasifier")
    with pytest.raises(UserError, match="Did you mean 'relu2'"):
        get_backbone("mnist_classifier", ("relu1", "rel2"))
    with pytest.raises(UserError, match="at least 18 pixels for relu3"):
        get_backbone("mnist_classifier", ("relu1", "relu3"), image_size=12)
    with pytest.raises(ValueError, match="logits and relu4 of mnist_classifier need images of 28x28"):
        features("mnist_classifier", jnp.zeros((1, 32, 32, 1)))
    with pytest.raises(ValueError, match="grey"):
        features("mnist_classifier", jnp.zeros((1, 28, 28, 3)))
