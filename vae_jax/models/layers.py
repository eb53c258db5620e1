"""Pooling and convolutional layers whose values and gradients are fast on every platform.

Each matches the plain form in values and gradients (`tests/models/test_layers.py`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from vae_jax.models.convolutions import conv, conv_transpose_2x
from vae_jax.models.cpu_forms import interleaved
from vae_jax.runtime.batches import pad_edges
from vae_jax.runtime.compilation import target_platform


@jax.custom_jvp
def _maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """max(a, b), whose gradient goes to `a` where they are equal; `jnp.maximum` gives a half to each."""
    return jnp.maximum(a, b)


@_maximum.defjvp
def _maximum_jvp(inputs: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]):
    a, b = inputs
    return jnp.maximum(a, b), jnp.where(a >= b, *tangents)


def _max_pool(x: jax.Array, size: int) -> jax.Array:
    """The maximum of every window of `size` x `size`, stride 2, no padding: [B, H, W, C] -> [B, h, w, C].

    Of equal values, common in flat areas and behind a ReLU, the first in the window, row by row, gets the whole
    gradient, as in PyTorch and in XLA's window reduction. Its own gradient is many times slower on CPUs, and moves a
    third of the bytes on TPUs.
    """
    if target_platform() == "tpu":
        return jax.lax.reduce_window(
            x, np.array(-np.inf, x.dtype), jax.lax.max, (1, size, size, 1), (1, 2, 2, 1), "VALID"
        )
    for axis in (2, 1):  # rows are reduced first
        length = x.shape[axis]
        end = max((length - size) // 2 * 2 + 1, 0)  # no window fits into less than `size`
        shifted = (jax.lax.slice_in_dim(x, min(i, length), min(i, length) + end, 2, axis) for i in range(size))
        x = functools.reduce(_maximum, shifted)
    return x


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Max-pooling 2x2, stride 2, no padding: [B, H, W, C] -> [B, H // 2, W // 2, C]; gradient as in `_max_pool`."""
    return _max_pool(x, 2)


def max_pool_3x3(x: jax.Array, ceil_mode: bool = False) -> jax.Array:
    """Max-pooling 3x3, stride 2, no padding: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, C], as AlexNet's; gradient
    as in `_max_pool`.

    With `ceil_mode`, as Caffe's: [B, H // 2, W // 2, C]. If H or W is even, the edge cuts off the last window.
    """
    if ceil_mode:
        ends = ((0, 0), (0, 1 - x.shape[1] % 2), (0, 1 - x.shape[2] % 2), (0, 0))
        x = jnp.pad(x, ends, constant_values=-jnp.inf)
    return _max_pool(x, 3)


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] -> [B, size, size, C] as torch's AdaptiveAvgPool2d: row i is the mean of the rows from
    floor(i H / size) up to ceil((i + 1) H / size), columns likewise."""
    rows, columns = (_window_means(length, size) for length in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows.astype(x.dtype), x, columns.astype(x.dtype))


def _window_means(length: int, size: int) -> np.ndarray:
    """[size, length]: the rows average the windows of `adaptive_average_pool`."""
    i, position = np.arange(size)[:, None], np.arange(length)[None, :]
    inside = (position >= i * length // size) & (position < -(-(i + 1) * length // size))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _as_flax_calls_it(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any,
    lhs_dilation: Sequence[int], rhs_dilation: Sequence[int], feature_group_count: int, **plain: Any,
) -> jax.Array:  # fmt: skip
    """`conv` with the arguments that flax passes. ValueError for dilation or groups."""
    if {*lhs_dilation, *rhs_dilation, feature_group_count} != {1}:
        raise ValueError("Conv has neither dilation nor groups: flax.linen.Conv has")
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return conv(x, kernel, tuple(strides), tuple((before, after) for before, after in padding))


Conv = functools.partial(nn.Conv, conv_general_dilated=_as_flax_calls_it)  # flax's, by `conv`


def spectral(layer: nn.Module, train: bool) -> Callable[[jax.Array], jax.Array]:
    """`layer` with its kernel, as a matrix [inputs, outputs], divided by its largest singular value (Miyato et al.
    2018): one power iteration in every training step, whose vectors are statistics."""

    def apply(x: jax.Array) -> jax.Array:
        return nn.SpectralNorm(layer, dtype=x.dtype, name=f"spectral_{layer.name}")(x, update_stats=train)

    return apply


def _biased(module: nn.Module, y: jax.Array) -> jax.Array:
    """y [B, H, W, features] plus the module's bias, unless `use_bias` is False."""
    if not module.use_bias:
        return y
    return y + module.param("bias", nn.initializers.zeros, (module.features,)).reshape(1, 1, 1, -1)


class ConvTranspose2x(nn.Module):
    """Learnt upsampling by two: `conv_transpose_2x` plus a bias, which is redundant before a normalisation."""

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
        x, kernel = promote_dtype(x, self.param("kernel", self.kernel_init, shape))
        return _biased(self, conv_transpose_2x(x, kernel))


def nearest_conv_2x(x: jax.Array, kernel: jax.Array, padding: str = "edge") -> jax.Array:
    """Nearest-neighbour upsampling by two, padding by one, 3x3 convolution: [B, H, W, in] -> [B, 2H, 2W, out].

    `kernel` is [3, 3, in, out]; `padding` repeats the edge, or with `constant` adds zeros. Computed as a 2x2
    convolution of the small image for each of the four output phases: 2.25 times fewer multiplications, and only the
    small image is padded.
    """
    height, width = x.shape[1:3]
    around = (1, 1)
    x = pad_edges(x, around, around) if padding == "edge" else jnp.pad(x, ((0, 0), around, around, (0, 0)))
    kernel = _nearest_phases(_nearest_phases(kernel, axis=0), axis=1)  # [2, 2, in, out, row phase, column phase]

    def phase(a, b):  # output (2m + a, 2n + b) sees x from (m + a, n + b)
        seen = x[:, a : a + height + 1, b : b + width + 1]
        return conv(seen, kernel[..., a, b], (1, 1), ((0, 0), (0, 0)))

    return interleaved([[phase(a, b) for b in range(2)] for a in range(2)])


def _nearest_phases(kernel: jax.Array, axis: int) -> jax.Array:
    """Kernels of the small image along `axis`, for even and odd outputs as a new last axis.

    Output 2m sees the inputs m - 1 and m by k0 and k1 + k2, output 2m + 1 sees m and m + 1 by k0 + k1 and k2.
    """
    k0, k1, k2 = jnp.split(kernel, 3, axis)
    even, odd = jnp.concatenate([k0, k1 + k2], axis), jnp.concatenate([k0 + k1, k2], axis)
    return jnp.stack([even, odd], axis=-1)


class NearestConv2x(nn.Module):
    """Upsampling by two and convolution: `nearest_conv_2x` plus a bias, which is redundant before a normalisation."""

    features: int
    use_bias: bool = True
    padding: str = "edge"
    kernel_init: Callable = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel = promote_dtype(x, self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features)))
        return _biased(self, nearest_conv_2x(x, kernel, self.padding))
