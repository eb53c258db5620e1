"""The networks of the VAE-GAN of Larsen, Sonderby, Larochelle, Winther (2016), at 64x64 as published, and at 32x32.

Sizes and widths are from the authors' code (andersbll/autoencoding_beyond_pixels). Convolutions are 5x5 with torch's
padding of 2 and no bias before BatchNorm; kernels are initialised from Glorot's uniform distribution. Images are in
[0, 1], but the networks work in [-1, 1]. `scale` multiplies every width (1: as published).
"""

import math

import flax.linen as nn
import jax

from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, ConvTranspose2x, spectral

glorot = nn.initializers.glorot_uniform()
HALVINGS = 3  # of height and width, in all three networks


def _conv(features: int, name: str) -> nn.Conv:
    return Conv(features, (5, 5), padding=2, kernel_init=glorot, name=name)


def _half(features: int, name: str, use_bias: bool = False) -> nn.Conv:
    return Conv(features, (5, 5), 2, 2, use_bias=use_bias, kernel_init=glorot, name=name)


def _dense(features: int, name: str, use_bias: bool = False) -> nn.Dense:
    return nn.Dense(features, use_bias=use_bias, kernel_init=glorot, name=name)


def _norm(train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-6, name=name)


def _scaled(widths: tuple[int, ...], scale: float) -> list[int]:
    return [max(1, round(width * scale)) for width in widths]


def _check(height: int, width: int) -> None:
    if height % 2**HALVINGS or width % 2**HALVINGS:
        raise ValueError(f"the larsen networks take images whose sides are multiples of eight, not {height}x{width}")


class LarsenEncoder(nn.Module):
    """[B, H, W, C] in [0, 1] -> mean, log-variance [B, latents]; 64, 128, 256 at stride 2, dense 1024."""

    latents: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        _check(*x.shape[1:3])
        *widths, hidden = _scaled((64, 128, 256, 1024), self.scale)
        x = 2 * x - 1
        for i, width in enumerate(widths, 1):
            x = relu(_norm(train, f"norm{i}")(_half(width, f"conv{i}")(x)))  # [B, H / 2^i, W / 2^i, width]
        x = relu(_norm(train, "norm_dense")(_dense(hidden, "dense")(x.reshape(x.shape[0], -1))))
        return _dense(self.latents, "mean", use_bias=True)(x), _dense(self.latents, "logvar", use_bias=True)(x)


class LarsenDecoder(nn.Module):
    """[B, latents] -> [B, *shape] in [0, 1]; dense H/8 x W/8 x 256, then 256, 128, 32 by doublings, 5x5 to the image.

    At 32x32 the authors have 192 instead of the second 256.
    """

    shape: tuple[int, int, int]
    scale: float = 1.0
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        height, width, channels = self.shape
        _check(height, width)
        first, *widths = _scaled((256, 256 if height > 32 else 192, 128, 32), self.scale)
        small = (height // 2**HALVINGS, width // 2**HALVINGS, first)
        x = relu(_norm(train, "norm_dense")(_dense(math.prod(small), "dense")(z))).reshape(-1, *small)
        for i, features in enumerate(widths, 1):
            up = ConvTranspose2x(features, kernel_size=5, use_bias=False, name=f"upconv{i}")
            x = relu(_norm(train, f"norm{i}")(up(x)))  # [B, H / 2^(3 - i), W / 2^(3 - i), features]
        return (1 + nn.tanh(_conv(channels, "image")(x))) / 2


class LarsenDiscriminator(nn.Module):
    """[B, H, W, C] in [0, 1] -> its layers by name; 32 at full size, then 128, 256, 256 at stride 2, dense 512.

    `conv1` to `conv4` are the convolutions' outputs, before BatchNorm and ReLU; the authors compare images at `conv4`.
    `logits` [B] are positive for what looks real. At 32x32 the authors have 128, 192, 256. With `spectral_norm` every
    layer has spectral normalisation and a bias, and there is no BatchNorm.
    """

    scale: float = 1.0
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        _check(*x.shape[1:3])
        first, *widths, hidden = _scaled((32, 128, 256 if x.shape[1] > 32 else 192, 256, 512), self.scale)

        def layer(made: nn.Module):
            return spectral(made, train) if self.spectral_norm else made

        def norm(y: jax.Array, name: str) -> jax.Array:
            return y if self.spectral_norm else _norm(train, name)(y)

        taps = {"conv1": layer(_conv(first, "conv1"))(2 * x - 1)}
        x = relu(taps["conv1"])
        for i, width in enumerate(widths, 2):
            half = _half(width, f"conv{i}", self.spectral_norm)
            taps[f"conv{i}"] = y = layer(half)(x)  # [B, H / 2^(i - 1), W / 2^(i - 1), width]
            x = relu(norm(y, f"norm{i}"))
        dense = _dense(hidden, "dense", self.spectral_norm)
        x = relu(norm(layer(dense)(x.reshape(x.shape[0], -1)), "norm_dense"))
        return taps | {"logits": layer(_dense(1, "logit", use_bias=True))(x)[:, 0]}
