"""Layers match the plain ones in values and gradients, including odd sizes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import assert_same

from vae_jax.models.convolutions import relu
from vae_jax.models.layers import adaptive_average_pool, max_pool_2x2, max_pool_3x3, nearest_conv_2x


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu(dtype):
    """JAX's, also at 0 and infinity."""
    x = jnp.array([-jnp.inf, -3, -1e-30, -0.0, 0, 1e-30, 3, jnp.inf, jnp.nan], dtype)
    gradients = jnp.arange(1.0, 10).astype(dtype)
    (ours, pull), (theirs, pull_theirs) = (jax.vjp(function, x) for function in (relu, nn.relu))
    for a, b in ((ours, theirs), (*pull(gradients), *pull_theirs(gradients))):
        assert a.dtype == x.dtype
        np.testing.assert_array_equal(a.astype("float32"), b.astype("float32"))


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 9, 2), (2, 5, 4, 1)])
@pytest.mark.parametrize(("pool", "window"), [(max_pool_2x2, 2), (max_pool_3x3, 3)])
def test_max_pool(shape, pool, window):
    x = jax.random.normal(jax.random.key(0), shape)
    plain = lambda x: nn.max_pool(x, (window, window), (2, 2))  # noqa: E731
    np.testing.assert_array_equal(pool(x), plain(x))
    weights = jax.random.normal(jax.random.key(1), plain(x).shape)
    fast, slow = (jax.grad(lambda x, f=f: (weights * f(x)).sum())(x) for f in (pool, plain))
    np.testing.assert_allclose(fast, slow, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 10, 2), (2, 2, 3, 1)])
def test_max_pool_in_ceil_mode(shape):
    """A window reduction over an image padded with -inf at even edges; the gradient is finite and reaches them."""
    x = jax.random.normal(jax.random.key(0), shape)
    padding = [(0, 0), *((0, 1 - n % 2) for n in shape[1:3]), (0, 0)]
    plain = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)  # noqa: E731
    pool = lambda x: max_pool_3x3(x, ceil_mode=True)  # noqa: E731
    assert pool(x).shape == (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
    np.testing.assert_array_equal(pool(x), plain(x))
    weights = jax.random.normal(jax.random.key(1), plain(x).shape)
    fast, slow = (jax.grad(lambda x, f=f: (weights * f(x)).sum())(x) for f in (pool, plain))
    np.testing.assert_allclose(fast, slow, rtol=1e-6)
    assert jnp.isfinite(jax.grad(lambda x: pool(x).sum())(jnp.zeros(shape))).all()


def test_adaptive_average_pool_by_hand():
    """7 rows into 3: the means of 0-2, 2-4, 4-6, as torch.nn.AdaptiveAvgPool2d; 2 columns into 3: of 0, 0-1, 1."""
    x = np.arange(7, dtype=np.float32).reshape(1, 7, 1, 1) + 10 * np.arange(2, dtype=np.float32).reshape(1, 1, 2, 1)
    expected = np.array([1, 3, 5]).reshape(3, 1) + np.array([0, 5, 10])
    np.testing.assert_allclose(adaptive_average_pool(x, 3)[0, :, :, 0], expected)


@pytest.mark.parametrize("padding", ["edge", "constant"])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 2, 1), (2, 4, 4, 2)])
def test_nearest_conv(shape, padding, form):
    """Against the definition: repeat, pad by the edge or by zeros, convolve."""
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, shape[3], 4))

    def plain(x, kernel):
        large = jnp.pad(x.repeat(2, axis=1).repeat(2, axis=2), ((0, 0), (1, 1), (1, 1), (0, 0)), mode=padding)
        return jax.lax.conv_general_dilated(large, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert_same(functools.partial(nearest_conv_2x, padding=padding), plain, x, kernel)
