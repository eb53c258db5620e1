"""The PatchGAN discriminator equals PyTorch's layers; the hinge costs of its map, by hand and at their kinks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import fill, rival_images
from helpers.checks import ROOT, value_and_gradient

from vae_jax.losses.adversarial import (
    fake_cost,
    hinge_fake_cost,
    hinge_generator_cost,
    hinge_real_cost,
    real_cost,
)
from vae_jax.models import DISCRIMINATORS

WIDTH = 4
COSTS = (real_cost, fake_cost, hinge_real_cost, hinge_fake_cost, hinge_generator_cost)


def variables_of(layers: int) -> dict:
    """The weights of the formula under torch's names in nn.Sequential: convolution, norm, leaky ReLU."""
    params, stats, inputs, place = {}, {}, 3, 0
    for i in range(layers + 2):
        last = i == layers + 1
        features = 1 if last else WIDTH * min(2**i, 8)
        kernel = fill(f"{place}.weight", (features, inputs, 4, 4)).transpose(2, 3, 1, 0)
        name = "logits" if last else f"conv{i + 1}"
        params[name] = {"kernel": kernel}
        if i == 0 or last:
            params[name]["bias"] = fill(f"{place}.bias", (features,))
            place += 2
        else:
            norm = {key: fill(f"{place + 1}.{key}", (features,)) for key in ("weight", "bias")}
            params[f"norm{i + 1}"] = {"scale": norm["weight"], "bias": norm["bias"]}
            keys = (("mean", "running_mean"), ("var", "running_var"))
            stats[f"norm{i + 1}"] = {ours: fill(f"{place + 1}.{theirs}", (features,)) for ours, theirs in keys}
            place += 3
        inputs = features
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("layers", [2, 3])
def test_equal_to_pytorch(layers, mode):
    """torch 2.13.0 in float64, batch and running statistics: map, hinge costs, gradient of the images; see
    golden/make_patchgan.py."""
    images, variables = jnp.asarray(rival_images((26, 35))[0]), variables_of(layers)
    with np.load(ROOT / "tests" / "golden" / "patchgan.npz") as golden:
        prefix = f"{layers}/{mode}/"
        expected = {key.removeprefix(prefix): golden[key] for key in golden if key.startswith(prefix)}
    network = DISCRIMINATORS["patchgan"](width=WIDTH, layers=layers)

    def run(images):
        if mode == "eval":
            return network.apply(variables, images, False)["logits"]
        return network.apply(variables, images, True, mutable="batch_stats")[0]["logits"]

    made = jax.eval_shape(lambda: network.init(jax.random.key(0), images))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, made)
    logits, gradient = jax.jit(lambda x: (run(x), jax.grad(lambda x: hinge_generator_cost(run(x)).sum())(x)))(images)
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5 * np.abs(expected["logits"]).max())
    for name, cost in (("real", hinge_real_cost), ("fake", hinge_fake_cost), ("generator", hinge_generator_cost)):
        np.testing.assert_allclose(cost(logits), expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(gradient, expected["gradient"], rtol=0, atol=5e-5 * np.abs(expected["gradient"]).max())


def test_published_sizes():
    """64, 128, 256, 512 channels: 2,765,633 weights, counted from the layers."""
    network = DISCRIMINATORS["patchgan"]()
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 256, 256, 3))))
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    convolutions = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert sum(sizes) == convolutions + 64 + 1 + 2 * (128 + 256 + 512) == 2_765_633
    logits = jax.eval_shape(lambda v: network.apply(v, jnp.zeros((2, 256, 256, 3))), variables)["logits"]
    assert logits.shape == (2, 30, 30)


def test_the_size_of_a_patch():
    """By the gradient of one number of the map of a narrow network: 70x70 pixels."""
    network, images = DISCRIMINATORS["patchgan"](width=1), jnp.asarray(rival_images((96, 104))[0][:1])
    variables = jax.jit(network.init)(jax.random.key(0), images)
    gradient = jax.jit(jax.grad(lambda x: network.apply(variables, x)["logits"][0, 5, 6]))(images)
    rows, columns = (np.flatnonzero(np.abs(gradient[0]).sum(axes)) for axes in ((1, 2), (0, 2)))
    assert len(rows) == rows[-1] - rows[0] + 1 == 70 and len(columns) == columns[-1] - columns[0] + 1 == 70


def test_initial_weights():
    """N(0, 0.02) convolutions, N(1, 0.02) scales of BatchNorm, no shift."""
    network = DISCRIMINATORS["patchgan"](width=16)
    params = jax.jit(network.init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))["params"]
    np.testing.assert_allclose(np.std(params["conv3"]["kernel"]), 0.02, rtol=0.02)
    scale = params["norm4"]["scale"]
    np.testing.assert_allclose((np.mean(scale), np.std(scale)), (1, 0.02), atol=0.005)
    assert not params["norm4"]["bias"].any() and not params["conv1"]["bias"].any()


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match="at least 24x24 pixels, not 40x23"):
        DISCRIMINATORS["patchgan"]().init(jax.random.key(0), jnp.zeros((1, 40, 23, 3)))


def test_costs_by_hand():
    """Of a map [2, 2, 3] and of one logit per image, by their formulas; and their gradients, per number of the map."""
    logits = np.array([[[-2, -0.5, 0.25], [0.5, 1.5, 3]], [[0, 0.1, -3], [2, -1.5, 0.9]]], np.float32)
    by_hand = {
        real_cost: (lambda x: np.log1p(np.exp(-x)), lambda x: -1 / (1 + np.exp(x))),
        fake_cost: (lambda x: np.log1p(np.exp(x)), lambda x: 1 / (1 + np.exp(-x))),
        hinge_real_cost: (lambda x: np.maximum(0, 1 - x), lambda x: -1.0 * (x < 1)),
        hinge_fake_cost: (lambda x: np.maximum(0, 1 + x), lambda x: 1.0 * (x > -1)),
        hinge_generator_cost: (lambda x: -x, lambda x: -np.ones_like(x)),
    }
    for cost, (value, slope) in by_hand.items():
        values, gradient = value_and_gradient(cost, logits)
        np.testing.assert_allclose(values, value(logits.astype(np.float64)).mean((1, 2)), rtol=1e-6)
        expected = slope(logits.astype(np.float64)) / 6 * np.array([1, 2]).reshape(2, 1, 1)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)
        np.testing.assert_allclose(cost(logits[:, 0, 0]), value(logits[:, 0, 0]), rtol=1e-6)


@pytest.mark.parametrize("cost", COSTS)
def test_costs_at_extremes(cost):
    for value in (-1e4, -1.0, 0.0, 1.0, 1e4):
        values, gradient = value_and_gradient(cost, jnp.full((2, 3, 4), value))
        assert np.isfinite(values).all() and np.abs(gradient).max() <= 2 / 12 + 1e-6
