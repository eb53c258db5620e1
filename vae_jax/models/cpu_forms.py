"""Convolutions, their gradients and ReLU in the forms that are fastest on CPUs; `convolutions` uses them there.

Each matches the plain form in values and gradients (`tests/models/test_convolutions.py`). None has a forward-mode
derivative.
"""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
VECTOR = 16  # numbers that oneDNN computes at once (AVX-512): it is slow with fewer channels
LARGEST_KERNEL, IMAGES = 2**23, 16  # bytes, and images per part, see `_parts`
Padding = Sequence[tuple[int, int]]  # zeros before the first and after the last row, and column


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding) -> jax.Array:
    """A convolution, [B, H, W, in] by [h, w, in, out], with the fastest forms of it and of its gradients."""
    return _fastest(x, kernel, strides, padding)


def _forward(
    function: Callable, x: jax.Array, kernel: jax.Array, *how: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    x = materialize(x)
    return function(x, kernel, *how), (x, kernel)


def _conv_backward(
    strides: tuple[int, ...], padding: Padding, inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    gradient = materialize(gradient)
    if strides == (2, 2) and x.shape[1:3] == (2 * gradient.shape[1], 2 * gradient.shape[2]):
        of_x = _by_phases(gradient, kernel, [before for before, _ in padding])
    elif strides == (1, 1):
        flipped, margin = kernel[::-1, ::-1].swapaxes(2, 3), _opposite(kernel.shape[:2], padding)
        of_x = _fastest(gradient, flipped, strides, margin)
    else:
        (of_x,) = jax.linear_transpose(lambda x: plain(x, kernel, strides, padding), x)(gradient)
    return of_x, _gradient_of_kernel(x, kernel, strides, padding, gradient)


conv.defvjp(functools.partial(_forward, conv), _conv_backward)


@jax.custom_vjp
def conv_transpose_2x(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2, padding `SAME`: [B, H, W, in] -> [B, 2H, 2W, out].

    `kernel` is [h, w, out, in], as in Keras: the result is the gradient of the `SAME` stride-2 convolution by `kernel`,
    and its own gradients are computed from that convolution, faster than from four phases.
    """
    return _by_phases(x, kernel, [max(size - 2, 0) // 2 for size in kernel.shape[:2]])


def _conv_transpose_2x_backward(
    inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    gradient = materialize(gradient)
    padding = jax.lax.padtype_to_pads(gradient.shape[1:3], kernel.shape[:2], (2, 2), "SAME")
    return conv(gradient, kernel, (2, 2), padding), _gradient_of_kernel(gradient, kernel, (2, 2), padding, x)


conv_transpose_2x.defvjp(functools.partial(_forward, conv_transpose_2x), _conv_transpose_2x_backward)


def _fastest(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """`plain` in its fastest form for these shapes.

    Of XLA's two libraries for x86, oneDNN is faster, unless its vectors are almost empty, but the other one takes all
    2-D convolutions first. It leaves 3-D convolutions to oneDNN. Neither takes an image smaller than the kernel: XLA's
    own loop is then some fifty times slower than a matrix product.
    """
    channels = kernel.shape[-1]
    if channels == 1:
        form = _to_one_channel
    elif any(side < size for side, size in zip(x.shape[1:3], kernel.shape[:2], strict=True)):
        form = _by_patches
    else:
        form = _one_deep if channels >= VECTOR and has_onednn() else plain
    return form(x, kernel, strides, padding)


@functools.cache
def has_onednn() -> bool:
    """Whether XLA gives 3-D convolutions to oneDNN: on x86, if set in XLA_FLAGS (`runtime.devices`)."""
    if "onednn" not in os.environ.get("XLA_FLAGS", "") or jax.default_backend() != "cpu":
        return False
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 1, 8, 8, 16), (1, 3, 3, 16, 16)))
    some = jax.jit(functools.partial(_deep, strides=(1, 1, 1), padding="SAME"))
    return "__onednn" in (some.lower(x, kernel).compile().as_text() or "")


def plain(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def _deep(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Sequence, dilation: Sequence[int] = (1, 1, 1)
) -> jax.Array:
    """[B, D, H, W, in] by [d, h, w, in, out]."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _one_deep(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """`plain` as a convolution of depth one."""
    return _deep(x[:, None], kernel[None], (1, *strides), ((0, 0), *padding))[:, 0]


def _by_patches(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """`plain` as a matrix product, [B, H', W', h * w * in] by [h * w * in, out]."""
    height, width, channels, out = kernel.shape
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*ends, 0) for ends in ((0, 0), *padding, (0, 0))])
    (down, right), ends = strides, (x.shape[1] - height, x.shape[2] - width)
    patches = [
        x[:, i : i + ends[0] + 1 : down, j : j + ends[1] + 1 : right] for i in range(height) for j in range(width)
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(height * width * channels, out)


def _to_one_channel(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """`plain` as a matrix product, [B, H, W, in] by [in, h * w], whose columns are shifted and added.

    Zero columns fill the last vector.
    """
    if tuple(strides) != (1, 1):
        return plain(x, kernel, strides, padding)
    size, taps = kernel.shape[:2], math.prod(kernel.shape[:2])
    sides = (n + before + after + 1 - k for n, k, (before, after) in zip(x.shape[1:3], size, padding, strict=True))
    windows = functools.partial(_windows, size=size, padding=_opposite(size, padding))
    columns = jnp.pad(kernel[::-1, ::-1].reshape(taps, -1), ((0, -taps % VECTOR), (0, 0)))
    products = jnp.einsum("bhwc,tc->bhwt", x, columns)[..., :taps]
    products = products.transpose(3, 0, 1, 2).reshape(*size, *x.shape[:3])
    (y,) = jax.linear_transpose(windows, jax.ShapeDtypeStruct((len(x), *sides), x.dtype))(products)
    return y[..., None]


def _windows(x: jax.Array, size: Sequence[int], padding: Padding) -> jax.Array:
    """[B, H, W] -> [h, w, B, H', W']: for each tap of a kernel of that `size` what it meets."""
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*ends, 0) for ends in ((0, 0), *padding)])  # or cut off, if negative
    height, width = (length + 1 - k for length, k in zip(x.shape[1:], size, strict=True))
    return jnp.stack([jnp.stack([x[:, i : i + height, j : j + width] for j in range(size[1])]) for i in range(size[0])])


def _opposite(size: Sequence[int], padding: Padding) -> Padding:
    """The padding of the transpose of a stride-1 convolution, as a convolution."""
    return tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(size, padding, strict=True))


def materialize(x: jax.Array) -> jax.Array:
    """x as an array in memory, which XLA does not recompute.

    For the gradient of a kernel, XLA changes the layout of the images and would recompute the BatchNorm or ReLU before
    them in the new layout, several times slower than a copy; likewise for a convolution of depth one.
    """
    return jax.lax.optimization_barrier(x)


def _gradient_of_kernel(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding, gradient: jax.Array
) -> jax.Array:
    """The gradient of `kernel` in a convolution, from the `gradient` of its result: a sum over parts of the batch."""
    if 1 in kernel.shape[2:] and strides == (1, 1):
        return _by_windows(x, kernel, padding, gradient)
    by_onednn = kernel.shape[-1] >= VECTOR and has_onednn()
    of_part = _with_channels_as_width if by_onednn else _transposed
    size = -(-len(x) // _parts(gradient, by_onednn))
    parts = (slice(start, start + size) for start in range(0, len(x), size))
    return functools.reduce(jnp.add, (of_part(x[part], kernel, strides, padding, gradient[part]) for part in parts))


def _parts(gradient: jax.Array, by_onednn: bool) -> int:
    """The number of parts of the batch for the gradient of a kernel; one if there are several devices.

    The gradient of the result acts as the kernel of the convolution that computes it. If it outgrows the processor's
    cache, XLA's own form takes up to five times as long; oneDNN is then fastest with IMAGES images per part. Parts of a
    batch on several devices would be copied between them.
    """
    if jax.device_count() > 1 or gradient.nbytes < LARGEST_KERNEL:
        return 1
    return -(-len(gradient) // IMAGES) if by_onednn else min(-(-gradient.nbytes // LARGEST_KERNEL), len(gradient))


def _transposed(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, gradient: jax.Array
) -> jax.Array:
    (of_kernel,) = jax.linear_transpose(lambda kernel: plain(x, kernel, strides, padding), kernel)(gradient)
    return of_kernel


def _with_channels_as_width(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, gradient: jax.Array
) -> jax.Array:
    """[h, w, in, out] as a convolution: rows as depth, columns as height and channels as width, enough of them to fill
    oneDNN's registers (a kernel has too few taps).

    [in / width, H, W, width, B] by [H', W', 1, B, out]: groups of channels serve as images, to occupy many cores.
    """
    width = VECTOR if x.shape[3] % VECTOR == 0 else x.shape[3]
    images = x.reshape(*x.shape[:3], -1, width).transpose(3, 1, 2, 4, 0)
    filters = gradient.transpose(1, 2, 0, 3)[:, :, None]
    taps = _deep(images, filters, (1, 1, 1), (*padding, (0, 0)), (*strides, 1))
    taps = materialize(taps)  # else XLA gives their sum to oneDNN, which takes at most 32 parts
    taps = taps[:, : kernel.shape[0], : kernel.shape[1]]  # without rows that the strides leave over
    return taps.transpose(1, 2, 0, 3, 4).reshape(kernel.shape)


def _by_windows(x: jax.Array, kernel: jax.Array, padding: Padding, gradient: jax.Array) -> jax.Array:
    """As a matrix product, for one input or output channel."""
    size = kernel.shape[:2]
    if kernel.shape[2] == 1:
        return jnp.einsum("ijbhw,bhwo->ijo", _windows(x[..., 0], size, padding), gradient)[:, :, None]
    windows = _windows(gradient[..., 0], size, _opposite(size, padding))
    return jnp.einsum("ijbhw,bhwc->ijc", windows, x)[::-1, ::-1, :, None]


def _by_phases(x: jax.Array, kernel: jax.Array, low: Sequence[int]) -> jax.Array:
    """[B, H, W, in] -> [B, 2H, 2W, out]: the transpose of a stride-2 convolution by `kernel` [h, w, out, in] that adds
    `low` zeros before the first row and column.

    For each of the four output phases, a convolution of the small image by that phase's taps: no product is with zero.
    XLA's CPU compiler is slow at input-dilated convolutions and slower at their gradients.
    """
    ends = [(0, max(2 - size, 0)) for size in kernel.shape[:2]]  # so that every phase has a tap
    kernel = jnp.pad(kernel, (*ends, (0, 0), (0, 0))).transpose(0, 1, 3, 2)
    rows, columns = (_phases(size, before) for size, before in zip(kernel.shape[:2], low, strict=True))

    def phase(row, column):
        taps = kernel[row.taps][:, column.taps]
        return _fastest(x, taps, (1, 1), (row.padding, column.padding))

    return interleaved([[phase(row, column) for column in columns] for row in rows])


class Phase(NamedTuple):
    """The taps of a kernel for every second output, and the zeros they need before and after the inputs."""

    taps: np.ndarray
    padding: tuple[int, int]


def _phases(size: int, low: int) -> list[Phase]:
    """Even and odd outputs along one axis: 2m + a sums input m + d times tap a + low - 2d over existing taps."""
    phases = []
    for a in range(2):
        taps = np.arange((a + low) % 2, size, 2)[::-1]
        d = (a + low - taps) // 2
        phases.append(Phase(taps, (-int(d[0]), int(d[-1]))))
    return phases


def interleaved(phases: Sequence[Sequence[jax.Array]]) -> jax.Array:
    """Outputs [B, H, W, out] by row phase and column phase -> [B, 2H, 2W, out]."""
    batch, height, width, out = phases[0][0].shape
    y = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return y.reshape(batch, 2 * height, 2 * width, out)


def grouped_conv(x: jax.Array, kernel: jax.Array, padding: Padding, groups: int) -> jax.Array:
    """A stride-1 convolution, group by group: XLA's grouped convolutions are several times slower on CPUs."""
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([conv(a, b, (1, 1), padding) for a, b in parts], axis=-1)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with a gradient of 0 at 0, as `jax.nn.relu`'s.

    Its gradient uses the result, not x, so a convolution can fuse with it and x is never written.
    """
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = materialize(jnp.maximum(x, 0))  # else XLA simplifies y > 0 to x > 0, and writes x
    return y, y > 0


relu.defvjp(_relu_forward, lambda is_open, gradient: (jnp.where(is_open, gradient, 0),))
