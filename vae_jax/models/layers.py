"""Convolutions, up-sampling and pooling, written so that they and their gradients are fast on every platform.

What only a CPU gains from is chosen here, by platform. Each fast form equals the plain one, values and gradients
(`tests/test_layers.py`).
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
VECTOR = 16  # numbers that oneDNN computes at once (AVX-512): of fewer channels it makes slow work
LARGEST_KERNEL, IMAGES = 2**23, 16  # bytes, and images a part, see `_parts`
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


def _plain(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def _deep(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Sequence, dilation: Sequence[int] = (1, 1, 1)
) -> jax.Array:
    """[B, D, H, W, in] by [d, h, w, in, out]."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _one_deep(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """`_plain` as a convolution of depth one."""
    return _deep(x[:, None], kernel[None], (1, *strides), ((0, 0), *padding))[:, 0]


def _fastest(channels: int) -> Callable:
    """`_plain` or the form of it that is the fastest on this platform where so many `channels` come out.

    Of XLA's libraries for x86 oneDNN is the faster, unless its vectors would be almost empty, but the other one takes
    all plain convolutions first. Those of three dimensions it leaves.
    """
    if channels == 1 and jax.default_backend() == "cpu":
        return _to_one_channel
    return _one_deep if channels >= VECTOR and has_onednn() else _plain


@functools.cache
def has_onednn() -> bool:
    """Whether XLA gives convolutions of three dimensions to oneDNN: on x86, if XLA_FLAGS say so (`cli.initialise`)."""
    if "onednn" not in os.environ.get("XLA_FLAGS", "") or jax.default_backend() != "cpu":
        return False
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 1, 8, 8, 16), (1, 3, 3, 16, 16)))
    some = jax.jit(functools.partial(_deep, strides=(1, 1, 1), padding="SAME"))
    return "__onednn" in some.lower(x, kernel).compile().as_text()


def _to_one_channel(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """`_plain` as a matrix product, [B, H, W, in] by [in, h * w], whose columns are laid over each other."""
    if tuple(strides) != (1, 1):
        return _plain(x, kernel, strides, padding)
    size = kernel.shape[:2]
    sides = (n + before + after + 1 - k for n, k, (before, after) in zip(x.shape[1:3], size, padding, strict=True))
    windows = functools.partial(_windows, size=size, padding=_opposite(size, padding))
    products = jnp.einsum("bhwc,ijc->ijbhw", x, kernel[::-1, ::-1, :, 0])
    (y,) = jax.linear_transpose(windows, jax.ShapeDtypeStruct((len(x), *sides), x.dtype))(products)
    return y[..., None]


def _windows(x: jax.Array, size: Sequence[int], padding: Padding) -> jax.Array:
    """[B, H, W] -> [h, w, B, H', W']: for each tap of a kernel of that `size` what it meets."""
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*ends, 0) for ends in ((0, 0), *padding)])  # or cut off, if negative
    height, width = (length + 1 - k for length, k in zip(x.shape[1:], size, strict=True))
    return jnp.stack([jnp.stack([x[:, i : i + height, j : j + width] for j in range(size[1])]) for i in range(size[0])])


def _opposite(size: Sequence[int], padding: Padding) -> Padding:
    """The padding by which the transpose of a convolution of stride 1 is one."""
    return tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(size, padding, strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding) -> jax.Array:
    """A plain convolution, [B, H, W, in] by [h, w, in, out], by the fastest forms of it and of its gradients.

    There is no forward-mode derivative.
    """
    return _fastest(kernel.shape[-1])(x, kernel, strides, padding)


def _conv_forward(x: jax.Array, kernel: jax.Array, *how: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    x = _finished(x)
    return conv(x, kernel, *how), (x, kernel)


def _conv_backward(
    strides: tuple[int, int], padding: Padding, inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    gradient = _finished(gradient)
    if strides == (2, 2) and x.shape[1:3] == (2 * gradient.shape[1], 2 * gradient.shape[2]):
        of_x = _by_phases(gradient, kernel, [before for before, _ in padding])
    elif strides == (1, 1):
        flipped, margin = kernel[::-1, ::-1].swapaxes(2, 3), _opposite(kernel.shape[:2], padding)
        of_x = _fastest(x.shape[-1])(gradient, flipped, strides, margin)
    else:
        (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel, strides, padding), x)(gradient)
    return of_x, _gradient_of_kernel(x, kernel, strides, padding, gradient)


conv.defvjp(_conv_forward, _conv_backward)


def _finished(x: jax.Array) -> jax.Array:
    """On CPU, x as an array of its own.

    XLA lays images anew for the gradient of a kernel, and would compute what made them, a BatchNorm or a ReLU, once
    more in the new order, several times slower than it copies; for a convolution of depth one, once more as well.
    """
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def _gradient_of_kernel(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding, gradient: jax.Array
) -> jax.Array:
    """The gradient of `kernel` in a convolution, from the `gradient` of its result: a sum over parts of the batch."""
    if 1 in kernel.shape[2:] and strides == (1, 1) and jax.default_backend() == "cpu":
        return _by_windows(x, kernel, padding, gradient)
    by_onednn = kernel.shape[-1] >= VECTOR and has_onednn()
    of_part = _with_channels_as_width if by_onednn else _transposed
    size = -(-len(x) // _parts(gradient, by_onednn))
    parts = (slice(start, start + size) for start in range(0, len(x), size))
    return functools.reduce(jnp.add, (of_part(x[part], kernel, strides, padding, gradient[part]) for part in parts))


def _by_windows(x: jax.Array, kernel: jax.Array, padding: Padding, gradient: jax.Array) -> jax.Array:
    """As a matrix product, where one channel comes in or out."""
    size = kernel.shape[:2]
    if kernel.shape[2] == 1:
        return jnp.einsum("ijbhw,bhwo->ijo", _windows(x[..., 0], size, padding), gradient)[:, :, None]
    windows = _windows(gradient[..., 0], size, _opposite(size, padding))
    return jnp.einsum("ijbhw,bhwc->ijc", windows, x)[::-1, ::-1, :, None]


def _transposed(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, gradient: jax.Array
) -> jax.Array:
    (of_kernel,) = jax.linear_transpose(lambda kernel: _plain(x, kernel, strides, padding), kernel)(gradient)
    return of_kernel


def _with_channels_as_width(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, gradient: jax.Array
) -> jax.Array:
    """[h, w, in, out] as a convolution: rows as depth, columns as height and channels as width, which fill oneDNN's
    registers (the taps of a kernel are too few to).

    [in / width, H, W, width, B] by [H', W', 1, B, out]: groups of channels pass for images, so that there is work for
    many cores.
    """
    width = VECTOR if x.shape[3] % VECTOR == 0 else x.shape[3]
    images = x.reshape(*x.shape[:3], -1, width).transpose(3, 1, 2, 4, 0)
    filters = gradient.transpose(1, 2, 0, 3)[:, :, None]
    taps = _deep(images, filters, (1, 1, 1), (*padding, (0, 0)), (*strides, 1))
    taps = _finished(taps)  # a sum of more than 32 parts, which XLA would give to oneDNN as well, is too long for it
    taps = taps[:, : kernel.shape[0], : kernel.shape[1]]  # without those of rows that the strides leave over
    return taps.transpose(1, 2, 0, 3, 4).reshape(kernel.shape)


def _parts(gradient: jax.Array, by_onednn: bool) -> int:
    """In how many parts of the batch the gradient of a kernel is computed: one but on a single CPU device.

    The gradient of the result is the kernel of the convolution that computes it, and where that outgrows the
    processor's cache, XLA's own form takes up to five times as long; oneDNN's then is the fastest with IMAGES a part.
    Parts of a batch that lies on several devices would be sent about.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or gradient.nbytes < LARGEST_KERNEL:
        return 1
    return -(-len(gradient) // IMAGES) if by_onednn else min(-(-gradient.nbytes // LARGEST_KERNEL), len(gradient))


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


Conv = functools.partial(nn.Conv, conv_general_dilated=_as_flax_calls_it)  # flax's, by `conv`


@jax.custom_vjp
def conv_transpose_2x(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2, padding `SAME`: [B, H, W, in] -> [B, 2H, 2W, out].

    `kernel` is [h, w, out, in], as in Keras: the result is the gradient of the `SAME` stride-2 convolution by `kernel`,
    and its own gradients are those of that convolution: faster than the gradients of four phases. There is no
    forward-mode derivative.
    """
    return _by_phases(x, kernel, [max(size - 2, 0) // 2 for size in kernel.shape[:2]])


def _conv_transpose_2x_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    x = _finished(x)
    return conv_transpose_2x(x, kernel), (x, kernel)


def _conv_transpose_2x_backward(
    inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    gradient = _finished(gradient)
    padding = jax.lax.padtype_to_pads(gradient.shape[1:3], kernel.shape[:2], (2, 2), "SAME")
    return conv(gradient, kernel, (2, 2), padding), _gradient_of_kernel(gradient, kernel, (2, 2), padding, x)


conv_transpose_2x.defvjp(_conv_transpose_2x_forward, _conv_transpose_2x_backward)


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
        return _fastest(taps.shape[-1])(x, taps, (1, 1), (row.padding, column.padding))

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
        return conv(seen, kernel[..., a, b], (1, 1), ((0, 0), (0, 0)))

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
