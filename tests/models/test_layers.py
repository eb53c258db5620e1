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
from vae_jax.runtime.compilation import compiling_for


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu(dtype):
    """JAX's, also at 0 and infinity."""
    x = jnp.array([-jnp.inf, -3, -1e-30, -0.0, 0, 1e-30, 3, jnp.inf, jnp.nan], dtype)
    gradients = jnp.arange(1.0, 10).astype(dtype)
    (ours, pull), (theirs, pull_theirs) = (jax.vjp(function, x) for function in (relu, nn.relu))
    for a, b in ((ours, theirs), (*pull(gradients), *pull_theirs(gradients))):
        assert a.dtype == x.dtype
        np.testing.assert_array_equal(a.astype("float32"), b.astype("float32"))


def pooled_by_hand(x, weights, size):
    """Max-pooling of stride 2 of an image that may be padded, [B, H, W, C], and the gradient of its weighted sum: the
    first largest value of each window, row by row, gets it all, as in torch.nn.MaxPool2d."""
    values, gradient = np.zeros_like(weights), np.zeros_like(x)
    for b, i, j, c in np.ndindex(weights.shape):
        window = x[b, 2 * i : 2 * i + size, 2 * j : 2 * j + size, c]
        row, column = np.unravel_index(np.argmax(window), window.shape)
        values[b, i, j, c] = window[row, column]
        gradient[b, 2 * i + row, 2 * j + column, c] += weights[b, i, j, c]
    return values, gradient


@pytest.mark.parametrize("levels", [1, 2, 3, 1000])
@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 9, 2), (2, 5, 4, 1)])
@pytest.mark.parametrize(("size", "ceil_mode"), [(2, False), (3, False), (3, True)])
def test_max_pool(shape, size, ceil_mode, levels):
    """By hand, as XLA's window reduction and as for a TPU: values and gradients, also where few levels make ties."""
    pool = functools.partial(max_pool_3x3, ceil_mode=ceil_mode) if size == 3 else max_pool_2x2
    ends = [(0, 0), *((0, (1 - n % 2) * ceil_mode) for n in shape[1:3]), (0, 0)]
    reduction = functools.partial(
        jax.lax.reduce_window, init_value=-jnp.inf, computation=jax.lax.max,
        window_dimensions=(1, size, size, 1), window_strides=(1, 2, 2, 1), padding=ends,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.integers(0, levels, shape).astype(np.float32)
    values, pull = jax.vjp(pool, x)
    with compiling_for("tpu"):
        on_tpu, pull_on_tpu = jax.vjp(pool, x)
    weights = rng.integers(1, 100, values.shape).astype(np.float32)  # so that sums are exact
    expected, gradient = pooled_by_hand(np.pad(x, ends, constant_values=-np.inf), weights, size)
    gradient = gradient[:, : shape[1], : shape[2]]
    for ours in (values, on_tpu, reduction(x)):
        np.testing.assert_array_equal(ours, expected)
    for ours in (*pull(weights), *pull_on_tpu(weights), *jax.vjp(reduction, x)[1](weights)):
        np.testing.assert_array_equal(ours, gradient)


def test_max_pool_keeps_nan():
    """Wherever it stands in a window."""
    for place in range(4):
        x = np.arange(4, dtype=np.float32)
        x[place] = np.nan
        assert np.isnan(max_pool_2x2(jnp.asarray(x.reshape(1, 2, 2, 1)))).all()


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
