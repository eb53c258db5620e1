"""The fast forms equal the plain ones, values and gradients, odd sizes and odd kernels included."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.models.layers import conv_transpose_2x, max_pool_2x2


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 9, 2), (2, 5, 4, 1)])
def test_max_pool(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    plain = lambda x: nn.max_pool(x, (2, 2), (2, 2))  # noqa: E731
    np.testing.assert_array_equal(max_pool_2x2(x), plain(x))
    weights = jax.random.normal(jax.random.key(1), plain(x).shape)
    fast, slow = (jax.grad(lambda x, f=f: (weights * f(x)).sum())(x) for f in (max_pool_2x2, plain))
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("kernel_shape", [(3, 3), (2, 2), (4, 4), (5, 5), (3, 5), (1, 1)])
def test_conv_transpose(kernel_shape):
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))
    kernel = jax.random.normal(jax.random.key(1), (*kernel_shape, 4, 3))

    def plain(x, kernel):
        return jax.lax.conv_transpose(
            x, kernel, (2, 2), "SAME", transpose_kernel=True, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    if min(kernel_shape) < 2:  # lax pads such kernels to another size; the transpose of the convolution decides

        def plain(x, kernel):
            down = lambda y: jax.lax.conv_general_dilated(  # noqa: E731
                y, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return jax.linear_transpose(down, jnp.zeros((2, 10, 14, 4)))(x)[0]

    np.testing.assert_allclose(conv_transpose_2x(x, kernel), plain(x, kernel), rtol=1e-5, atol=1e-5)
    weights = jax.random.normal(jax.random.key(2), (2, 10, 14, 4))
    fast, slow = (
        jax.grad(lambda x, k, f=f: (weights * f(x, k)).sum(), (0, 1))(x, kernel) for f in (conv_transpose_2x, plain)
    )
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_conv_transpose_is_keras():
    """Keras 3 Conv2DTranspose(strides=2, padding='same') with the same kernel (TensorFlow 2.21)."""
    tf = pytest.importorskip("tensorflow")
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 3)).astype(np.float32)
    expected = tf.nn.conv2d_transpose(x, kernel, (2, 10, 14, 4), 2, "SAME").numpy()
    np.testing.assert_allclose(conv_transpose_2x(jnp.asarray(x), jnp.asarray(kernel)), expected, rtol=1e-4, atol=1e-5)
