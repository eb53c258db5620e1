"""The CPU forms of convolutions, and those used elsewhere, match the plain ones in values and gradients, including odd
sizes and kernels."""

import functools
import os
import platform
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import assert_same, equations

from vae_jax.models import cpu_forms
from vae_jax.models.convolutions import conv, conv_transpose_2x, grouped_conv, relu
from vae_jax.models.layers import Conv
from vae_jax.runtime import devices
from vae_jax.runtime.compilation import compiling_for


@pytest.mark.parametrize(
    ("shape", "features", "kernel", "strides", "padding"),
    [
        ((3, 7, 10, 3), 4, (5, 3), (1, 1), "SAME"),
        ((3, 7, 10, 3), 4, (5, 3), (1, 1), "VALID"),
        ((3, 7, 10, 3), 4, (2, 3), (1, 1), 2),  # more than half of the kernel
        ((3, 7, 10, 3), 4, (1, 1), (1, 1), 1),  # more than the kernel
        ((3, 7, 10, 3), 4, (5, 3), (2, 2), "SAME"),
        ((3, 8, 10, 3), 4, (4, 4), (2, 2), 1),
        ((1, 2, 4, 1), 4, (5, 5), (2, 2), 2),  # the result is smaller than the kernel
        ((2, 14, 20, 2), 4, (7, 7), (2, 2), 3),
        ((2, 8, 6, 3), 4, (1, 1), (2, 2), 0),
        ((2, 15, 16, 3), 4, (3, 3), (4, 4), 1),  # with leftover rows
        ((3, 7, 10, 6), 4, (3, 2), (1, 1), "SAME"),  # channels in groups
        ((3, 9, 10, 4), 6, (3, 2), (2, 2), "SAME"),
        ((3, 7, 10, 1), 4, (4, 3), (1, 1), "SAME"),  # from one channel, to one, and both
        ((3, 7, 10, 3), 1, (4, 3), (1, 1), "VALID"),
        ((3, 7, 10, 3), 1, (3, 3), (1, 1), ((0, 3), (2, 1))),
        ((3, 7, 10, 1), 1, (3, 4), (1, 1), 1),
        ((3, 7, 10, 1), 1, (5, 3), (2, 1), "VALID"),
        ((3, 2, 4, 3), 4, (3, 3), (1, 1), "SAME"),  # smaller than the kernel, in one direction and in both
        ((3, 3, 2, 3), 4, (4, 5), (1, 1), "SAME"),
        ((3, 3, 2, 3), 4, (4, 5), (2, 2), "SAME"),
    ],
)
def test_conv(shape, features, kernel, strides, padding, form):
    """Flax's convolution, values and all gradients, for odd batches, sides and channels."""
    x = jax.random.normal(jax.random.key(0), shape)
    plain, ours = (make(features, kernel, strides, padding) for make in (nn.Conv, Conv))
    variables = ours.init(jax.random.key(1), x)
    assert_same(ours.apply, plain.apply, variables, x)


@pytest.mark.parametrize("what", [{"kernel_dilation": 2}, {"input_dilation": 2}, {"feature_group_count": 3}])
def test_conv_refuses_dilation_and_groups(what):
    with pytest.raises(ValueError, match="neither dilation nor groups"):
        Conv(6, (3, 3), **what).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_off_the_cpu_convolutions_are_plain():
    """One operation each, XLA's own gradients, and forward-mode derivatives; on CPU there are none of those."""
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    functions = {
        "conv": lambda x: conv(x, kernel, (2, 2), ((1, 1), (1, 1))),
        "conv_transpose_2x": lambda x: conv_transpose_2x(x, kernel),
        "grouped_conv": lambda x: grouped_conv(x, kernel[:, :, :2], ((1, 1), (1, 1)), 2),
    }
    for name, function in functions.items():
        for platform_ in ("gpu", "tpu"):
            with compiling_for(platform_):
                operations = [e.primitive.name for e in equations(jax.make_jaxpr(function)(x).jaxpr)]
                assert operations.count("conv_general_dilated") == 1 and "custom_vjp_call" not in operations, name
                tangent = jax.jvp(lambda x, f=function: relu(f(x)), (x,), (x,))[1]
            assert tangent.shape == function(x).shape
        with compiling_for("cpu"), pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(function, (x,), (x,))


def test_images_smaller_than_the_kernel_go_through_a_matrix_product():
    """XLA's loop for them is some fifty times slower."""
    kernel, padding = jnp.ones((5, 5, 4, 4)), ((2, 2), (2, 2))
    for height, convolutions in ((4, 0), (5, 1)):
        traced = jax.make_jaxpr(lambda x: conv(x, kernel, (1, 1), padding))(jnp.ones((2, height, 6, 4)))
        names = [equation.primitive.name for equation in equations(traced.jaxpr)]
        assert names.count("conv_general_dilated") == convolutions


def test_grouped_conv(form):
    x = jax.random.normal(jax.random.key(0), (2, 7, 9, 6))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 2, 9))
    padding = ((1, 1), (0, 1))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
        )

    assert_same(lambda x, kernel: grouped_conv(x, kernel, padding, 3), plain, x, kernel)


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("transpose", [False, True])
def test_gradient_of_a_kernel_in_parts(transpose, parts, form, monkeypatch):
    """Five images in two or three uneven parts, or one by one, give the same gradient as all together."""
    x = jax.random.normal(jax.random.key(0), (5, 6, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (5, 5, 4, 3) if transpose else (5, 5, 3, 4))
    function = conv_transpose_2x if transpose else functools.partial(conv, strides=(2, 2), padding=((2, 2), (2, 2)))
    weights = jax.random.normal(jax.random.key(2), function(x, kernel).shape)
    gradient = lambda: jax.jit(jax.grad(lambda kernel: (weights * function(x, kernel)).sum()))(kernel)  # noqa: E731
    whole = gradient()
    monkeypatch.setattr(cpu_forms, "_parts", lambda gradient, by_onednn: parts)
    np.testing.assert_allclose(gradient(), whole, rtol=1e-5, atol=1e-5)


def test_how_many_parts(monkeypatch):
    """One on several devices or if LARGEST_KERNEL holds it; else each part has as many images as it holds, at least
    one; with oneDNN, IMAGES."""
    gradient = jnp.zeros((6, 2, 2, 8))  # 128 bytes an image
    monkeypatch.setattr(cpu_forms, "LARGEST_KERNEL", 300)
    monkeypatch.setattr(cpu_forms, "IMAGES", 4)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert cpu_forms._parts(gradient, False) == cpu_forms._parts(gradient, True) == 1
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert cpu_forms._parts(gradient, False) == 3 and cpu_forms._parts(gradient, True) == 2
    assert cpu_forms._parts(gradient[:2], False) == cpu_forms._parts(gradient[:2], True) == 1
    monkeypatch.setattr(cpu_forms, "LARGEST_KERNEL", 1)
    assert cpu_forms._parts(gradient, False) == 6


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="oneDNN is for x86")
@pytest.mark.skipif(jax.__version_info__ < devices.THREADS_WELL, reason="an older XLA gives oneDNN no convolutions")
def test_onednn():
    """With the flags that commands set, XLA calls oneDNN for values and gradients, and they equal the plain ones. One
    call computes convolution, bias and ReLU, even with a gradient."""
    done = subprocess.run(
        [sys.executable, "-c", ONEDNN], env=os.environ | {"XLA_FLAGS": devices.ONEDNN}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    values, of_x, of_kernel, of_x_by_phases = 1, 1, 40, 4  # calls; oneDNN itself would sum at most 33 parts
    one, two = values + of_x + of_kernel, values + of_x_by_phases + of_kernel  # by the stride
    assert list(map(int, done.stdout.split())) == [one, one, two, two, 1]


ONEDNN = """
import jax, jax.numpy as jnp, numpy as np
from vae_jax.models import cpu_forms
from vae_jax.models.convolutions import conv, relu

cpu_forms.LARGEST_KERNEL, cpu_forms.IMAGES = 0, 1

def plain(x, kernel, *how):
    return jax.lax.conv_general_dilated(x, kernel, *how, dimension_numbers=("NHWC", "HWIO", "NHWC"))

def all_three(convolve, x, kernel, weights, *how):
    y, pull = jax.vjp(lambda *a: convolve(*a, *how), x, kernel)
    return y, *pull(weights)

def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile()

for size, stride, padding, channels in (
    (3, 1, ((1, 1), (1, 1)), 32), (5, 1, ((0, 3), (2, 1)), 17),
    (3, 2, ((0, 1), (0, 1)), 32), (4, 2, ((1, 1), (1, 1)), 17)
):
    strides = (stride, stride)
    x = jax.random.normal(jax.random.key(0), (40, 10, 14, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, 19))
    weights = jax.random.normal(jax.random.key(2), plain(x, kernel, strides, padding).shape)
    ours, theirs = (
        compiled(lambda *a, f=f: all_three(f, *a, strides, padding), x, kernel, weights) for f in (conv, plain)
    )
    print(ours.as_text().count("__onednn$convolution"))
    for a, b in zip(ours(x, kernel, weights), theirs(x, kernel, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))

end = lambda *a: relu(conv(*a, strides, padding) + 1).sum()
print(compiled(jax.grad(end), x, kernel).as_text().count(',"RELU"]'))
"""


@pytest.mark.parametrize("kernel_shape", [(3, 3), (2, 2), (4, 4), (5, 5), (3, 5), (1, 1)])
def test_conv_transpose(kernel_shape, form):
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

    assert_same(conv_transpose_2x, plain, x, kernel)


def test_conv_transpose_is_keras():
    """Keras 3 Conv2DTranspose(strides=2, padding='same') with the same kernel (TensorFlow 2.21)."""
    tf = pytest.importorskip("tensorflow")
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 3)).astype(np.float32)
    expected = tf.nn.conv2d_transpose(x, kernel, (2, 10, 14, 4), 2, "SAME").numpy()
    np.testing.assert_allclose(conv_transpose_2x(jnp.asarray(x), jnp.asarray(kernel)), expected, rtol=1e-4, atol=1e-5)
