"""Convolutions, up-sampling and pooling, written so that their gradients are fast on every platform.

Each fast form equals the plain one, values and gradients (`tests/test_layers.py`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
LARGEST_KERNEL = 2**23  # bytes, see `_parts`
Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros before the first and after the last row, and column


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Max-pooling 2x2, stride 2, no padding: [B, H, W, C] -> [B, H // 2, W // 2, C].

    Four strided slices and `maximum`: the gradient of a window reduction is many times slower on CPU.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def max_pool_3x3(x: jax.Array, ceil_mode: bool = False) -> jax.Array:
    """Max-pooling 3x3, stride 2, no padding: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, C], as AlexNet's.

    With `ceil_mode`, as Caffe's: [B, H // 2, W // 2, C]. Where H or W is even, the last window is cut off by the edge.
    """
    if ceil_mode:
        ends = ((0, 0), (0, 1 - x.shape[1] % 2), (0, 1 - x.shape[2] % 2), (0, 0))
        x = jnp.pad(x, ends, constant_values=-jnp.inf)
    height, width = (x.shape[1] - 1) // 2 * 2, (x.shape[2] - 1) // 2 * 2
    rows = jnp.maximum(jnp.maximum(x[:, 0:height:2], x[:, 1:height:2]), x[:, 2 : height + 1 : 2])
    return jnp.maximum(jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2]), rows[:, :, 2 : width + 1 : 2])


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


def _convolve(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding) -> jax.Array:
    """A plain convolution, [B, H, W, in] by [h, w, in, out], whose kernel's gradient is `_gradient_of_kernel`.

    There is no forward-mode derivative.
    """
    return _convolve(x, kernel, strides, padding)


def _conv_backward(
    strides: tuple[int, int], padding: Padding, inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    convolve = functools.partial(_convolve, strides=strides, padding=padding)
    (of_x,) = jax.linear_transpose(lambda x: convolve(x, kernel), x)(gradient)
    return of_x, _gradient_of_kernel(convolve, x, kernel, gradient)


conv.defvjp(lambda x, kernel, *how: (_convolve(x, kernel, *how), (x, kernel)), _conv_backward)


def _gradient_of_kernel(convolve: Callable, x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of `kernel` in `convolve(x, kernel)`, from the `gradient` of its result: a sum over `_parts`.

    On CPU from finished arrays: XLA lays both out anew, and would compute what made them, a BatchNorm or a ReLU, once
    more in the new order, several times slower than it copies.
    """
    if jax.default_backend() == "cpu":
        x, gradient = jax.lax.optimization_barrier((x, gradient))
    size = -(-len(x) // _parts(gradient))

    def of_part(start: int) -> jax.Array:
        part = slice(start, start + size)
        return jax.linear_transpose(lambda kernel: convolve(x[part], kernel), kernel)(gradient[part])[0]

    return functools.reduce(jnp.add, map(of_part, range(0, len(x), size)))


def _parts(gradient: jax.Array) -> int:
    """In how many parts of the batch the gradient of a kernel is computed: one but on a single CPU device.

    XLA makes the gradient of the result the kernel of a convolution, and where that kernel outgrows the processor's
    cache each product takes up to five times as long. Parts of a batch that lies on several devices would be sent
    about.
    """
    alone = jax.default_backend() == "cpu" and jax.device_count() == 1
    return min(-(-gradient.nbytes // LARGEST_KERNEL), len(gradient)) if alone else 1


def _as_flax_calls_it(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any,
    lhs_dilation: Sequence[int], rhs_dilation: Sequence[int], feature_group_count: int, **plain: Any,
) -> jax.Array:  # fmt: skip
    """`conv`, by the arguments that flax passes."""
    if {*lhs_dilation, *rhs_dilation, feature_group_count} != {1}:
        raise ValueError("Conv has neither dilation nor groups: flax.linen.Conv has")
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return conv(x, kernel, tuple(strides), tuple(map(tuple, padding)))


Conv = functools.partial(nn.Conv, conv_general_dilated=_as_flax_calls_it)  # flax's, with the gradient of `conv`


@jax.custom_vjp
def conv_transpose_2x(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2, padding `SAME`: [B, H, W, in] -> [B, 2H, 2W, out].

    `kernel` is [h, w, out, in], as in Keras: the result is the gradient of the `SAME` stride-2 convolution by `kernel`,
    and its own gradients are those of that convolution: faster than the gradients of four phases. There is no
    forward-mode derivative.
    """
    return _by_phases(x, kernel, [max(size - 2, 0) // 2 for size in kernel.shape[:2]])


def _conv_transpose_2x_backward(
    inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    half = functools.partial(_convolve, strides=(2, 2), padding="SAME")
    return half(gradient, kernel), _gradient_of_kernel(half, gradient, kernel, x)


conv_transpose_2x.defvjp(lambda x, kernel: (conv_transpose_2x(x, kernel), (x, kernel)), _conv_transpose_2x_backward)


def _by_phases(x: jax.Array, kernel: jax.Array, low: Sequence[int]) -> jax.Array:
    """[B, H, W, in] -> [B, 2H, 2W, out]: the transpose of a stride-2 convolution by `kernel` [h, w, out, in] that adds
    `low` zeros before the first row and column.

    A convolution of the small image for each of the four phases of output by its own taps of the kernel: XLA's CPU
    compiler is slow at input-dilated convolutions and slower at their gradients, and no product here is with zero.
    """
    ends = [(0, max(2 - size, 0)) for size in kernel.shape[:2]]  # so that no phase is without a tap
    kernel = jnp.pad(kernel, (*ends, (0, 0), (0, 0))).transpose(0, 1, 3, 2)
    rows, columns = (_phases(size, before) for size, before in zip(kernel.shape[:2], low, strict=True))

    def phase(row, column):
        taps = kernel[row.taps][:, column.taps]
        return _convolve(x, taps, (1, 1), [row.padding, column.padding])

    return _interleaved([[phase(row, column) for column in columns] for row in rows])


class Phase(NamedTuple):
    """The taps of a kernel that every second output sees, and the zeros that they need before and after the inputs."""

    taps: np.ndarray
    padding: tuple[int, int]


def _phases(size: int, low: int) -> list[Phase]:
    """Even and odd outputs along one axis: 2m + a sums input m + d times tap a + low - 2d, where there is that tap."""
    phases = []
    for a in range(2):
        taps = np.arange((a + low) % 2, size, 2)[::-1]
        d = (a + low - taps) // 2
        phases.append(Phase(taps, (-int(d[0]), int(d[-1]))))
    return phases


def _biased(module: nn.Module, y: jax.Array) -> jax.Array:
    """y [B, H, W, features] plus the module's bias, which it has unless `use_bias` is False."""
    if not module.use_bias:
        return y
    return y + module.param("bias", nn.initializers.zeros, (module.features,)).reshape(1, 1, 1, -1)


class ConvTranspose2x(nn.Module):
    """Learned up-sampling by two: `conv_transpose_2x`, with a bias unless something takes it out again."""

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
        y = conv_transpose_2x(x, self.param("kernel", self.kernel_init, shape))
        return _biased(self, y)


@jax.custom_vjp
def conv_half(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 2 by an odd kernel, torch's padding of (size - 1) / 2: [B, H, W, in] -> [B, H/2, W/2, out].

    `kernel` is [size, size, in, out], H and W are even. The gradient of x is the transposed convolution `_by_phases`,
    with jax 0.10 up to 70 times as fast as XLA's: where the result is smaller than the kernel. There is no forward-mode
    derivative.
    """
    return _strided(x, kernel)


def _strided(x: jax.Array, kernel: jax.Array) -> jax.Array:
    half = (kernel.shape[0] - 1) // 2
    return _convolve(x, kernel, (2, 2), [(half, half)] * 2)


def _conv_half_backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    half = (kernel.shape[0] - 1) // 2
    return _by_phases(gradient, kernel, (half, half)), _gradient_of_kernel(_strided, x, kernel, gradient)


conv_half.defvjp(lambda x, kernel: (_strided(x, kernel), (x, kernel)), _conv_half_backward)


class ConvHalf(nn.Module):
    """Halves height and width: `conv_half`, with a bias unless something takes it out again."""

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        y = conv_half(x, self.param("kernel", self.kernel_init, shape))
        return _biased(self, y)


def nearest_conv_2x(x: jax.Array, kernel: jax.Array, padding: str = "edge") -> jax.Array:
    """Nearest-neighbour up-sampling by two, padding by one, 3x3 convolution: [B, H, W, in] -> [B, 2H, 2W, out].

    `kernel` is [3, 3, in, out]; `padding` repeats the edge, or with `constant` adds zeros. Written as a 2x2 convolution
    of the small image for each of the four phases of output: 2.25 times fewer multiplications, and the padding is of
    the small image.
    """
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=padding)
    kernel = _nearest_phases(_nearest_phases(kernel, axis=0), axis=1)  # [2, 2, in, out, row phase, column phase]

    def phase(a, b):  # output (2m + a, 2n + b) sees x from (m + a, n + b) on
        seen = x[:, a : a + height + 1, b : b + width + 1]
        return _convolve(seen, kernel[..., a, b], (1, 1), "VALID")

    return _interleaved([[phase(a, b) for b in range(2)] for a in range(2)])


def _interleaved(phases: Sequence[Sequence[jax.Array]]) -> jax.Array:
    """Outputs [B, H, W, out] by row phase and column phase -> [B, 2H, 2W, out]."""
    batch, height, width, out = phases[0][0].shape
    y = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return y.reshape(batch, 2 * height, 2 * width, out)


def _nearest_phases(kernel: jax.Array, axis: int) -> jax.Array:
    """Kernels of the small image along `axis`, for even and odd outputs as a new last axis.

    Output 2m sees the inputs m - 1 and m by k0 and k1 + k2, output 2m + 1 sees m and m + 1 by k0 + k1 and k2.
    """
    k0, k1, k2 = jnp.split(kernel, 3, axis)
    even, odd = jnp.concatenate([k0, k1 + k2], axis), jnp.concatenate([k0 + k1, k2], axis)
    return jnp.stack([even, odd], axis=-1)


class NearestConv2x(nn.Module):
    """Up-sampling by two and convolution: `nearest_conv_2x`, with a bias unless something takes it out again."""

    features: int
    use_bias: bool = True
    padding: str = "edge"
    kernel_init: Callable = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        y = nearest_conv_2x(x, kernel, self.padding)
        return _biased(self, y)
