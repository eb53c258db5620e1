"""The convolutions and ReLU of every network, for the platform that the program is compiled for.

On CPUs they are the hand-written forms of `cpu_forms`, which are faster there. Elsewhere they are XLA's own, with XLA's
gradients and forward-mode derivatives: on a TPU the forms save nothing and cost 3 % more memory traffic.
`runtime.compilation.compiling_for` sets the platform during tracing.
"""

import jax

from vae_jax.models import cpu_forms
from vae_jax.models.cpu_forms import DIMENSIONS, Padding, plain
from vae_jax.runtime.compilation import target_devices, target_platform

ENOUGH = 8  # images on a TPU for which its compiler does not abort over two transposed convolutions in a row


def conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding) -> jax.Array:
    """A convolution, [B, H, W, in] by [h, w, in, out] -> [B, H', W', out]."""
    return (cpu_forms.conv if _for_cpu() else plain)(x, kernel, strides, padding)


def conv_transpose_2x(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2, padding `SAME`: [B, H, W, in] -> [B, 2H, 2W, out].

    `kernel` is [h, w, out, in], as in Keras: the result is the gradient of the `SAME` stride-2 convolution by `kernel`.
    """
    if _for_cpu():
        return cpu_forms.conv_transpose_2x(x, kernel)
    batch, height, width, _ = x.shape
    large = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, kernel.shape[2]), x.dtype)
    padding = jax.lax.padtype_to_pads(large.shape[1:3], kernel.shape[:2], (2, 2), "SAME")
    if target_platform() == "tpu" and batch < ENOUGH * target_devices():
        x = jax.lax.optimization_barrier(x)
    (y,) = jax.linear_transpose(lambda y: plain(y, kernel, (2, 2), padding), large)(x)
    return y


def grouped_conv(x: jax.Array, kernel: jax.Array, padding: Padding, groups: int) -> jax.Array:
    """A convolution of stride 1 in groups: [B, H, W, in] by [h, w, in / groups, out] -> [B, H', W', out].

    The i-th group of outputs sees the i-th group of channels only.
    """
    if _for_cpu():
        return cpu_forms.grouped_conv(x, kernel, padding, groups)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=DIMENSIONS, feature_group_count=groups
    )


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with a gradient of 0 at 0."""
    return cpu_forms.relu(x) if _for_cpu() else jax.nn.relu(x)


def _for_cpu() -> bool:
    return target_platform() == "cpu"
