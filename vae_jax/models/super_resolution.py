"""Networks for super-resolution: an encoder of the low-resolution image, and an upscaler of the code.

    vector    the whole image in one vector, as in the document *Perceptual Loss in (Variational) Autoencoder*
    spatial   latents at every low-resolution pixel, for what bicubic upsampling lacks: y = bicubic(x) + g(z)

An upscaler is made for the high-resolution images [H, W, C]. All convolutions of the spatial networks are at low
resolution; the channels of the last one are the sub-pixels (Shi et al. 2016). There is no normalisation, and images
may have any size.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.data.degrade import bicubic
from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, ConvTranspose2x
from vae_jax.models.residual import ResidualBlock, he

glorot = nn.initializers.glorot_uniform()
WIDTHS = (16, 32, 64)  # of the vector encoder's halvings
NARROW = -6.0  # initial log-variance of a spatial posterior: at 0 its noise drowns the features


class VectorEncoder(nn.Module):
    """[B, h, w, C] in [0, 1] -> mean, log-variance [B, latents]; h and w are multiples of eight."""

    latents: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        if x.shape[1] % 8 or x.shape[2] % 8:
            raise ValueError(f"the vector encoder takes images whose sides are multiples of eight, not {x.shape[1:]}")
        for i, width in enumerate(WIDTHS):
            halving = Conv(width, (3, 3), 2, 1, kernel_init=glorot, name=f"conv{i + 1}")
            x = relu(halving(x))  # [B, h / 2^(i + 1), ..., width]
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.latents, name="mean")(x), nn.Dense(self.latents, name="logvar")(x)


class VectorUpscaler(nn.Module):
    """[B, latents] -> [B, *shape] in [0, 1]: the document's decoder, with extra doublings before its own three.

    The document's own decodes to the size of the encoded images; `factor` is 2, 4, 8 ...
    """

    shape: tuple[int, int, int]
    factor: int
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        if self.factor & (self.factor - 1):
            raise ValueError(f"the vector upscaler works by doubling: factor must be a power of two, not {self.factor}")
        height, width, channels = self.shape
        height, width = height // (8 * self.factor), width // (8 * self.factor)
        x = nn.Dense(height * width * WIDTHS[-1], name="dense")(z).reshape(-1, height, width, WIDTHS[-1])
        widths = [WIDTHS[-1]] * (self.factor.bit_length() - 1) + [WIDTHS[1], WIDTHS[0]]
        for i, features in enumerate(widths):
            x = relu(ConvTranspose2x(features, name=f"conv{i + 1}")(x))
        return nn.sigmoid(ConvTranspose2x(channels, name="image")(x))


class SpatialEncoder(nn.Module):
    """[B, h, w, C] in [0, 1] -> mean, log-variance [B, h, w, latents]."""

    latents: int
    width: int = 32
    blocks: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        x = Conv(self.width, (3, 3), kernel_init=he, name="conv")(x)
        for i in range(self.blocks):
            x = ResidualBlock(name=f"block{i + 1}")(x)
        x = nn.swish(x)
        logvar = Conv(self.latents, (3, 3), bias_init=nn.initializers.constant(NARROW), name="logvar")
        return Conv(self.latents, (3, 3), name="mean")(x), logvar(x)

    @property
    def receptive_radius(self) -> int:
        """How many pixels beyond its own a latent sees: one per convolution."""
        return 2 + 2 * self.blocks


class SpatialUpscaler(nn.Module):
    """z [B, h, w, latents + C], the low-resolution image last -> [B, factor h, factor w, C], not clipped to [0, 1].

    It starts as bicubic upsampling: its last convolution is initialised with zero.
    """

    shape: tuple[int, int, int]
    factor: int
    width: int = 32
    blocks: int = 4
    last_layer = "sub_pixels"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        channels = self.shape[2]
        z, low = z[..., :-channels], z[..., -channels:]
        x = Conv(self.width, (3, 3), kernel_init=he, name="conv")(z)
        for i in range(self.blocks):
            x = ResidualBlock(name=f"block{i + 1}")(x)
        sub_pixels = Conv(self.factor**2 * channels, (3, 3), kernel_init=nn.initializers.zeros, name="sub_pixels")
        return bicubic(low.astype(jnp.float32), self.factor) + depth_to_space(sub_pixels(nn.swish(x)), self.factor)

    @property
    def receptive_radius(self) -> int:
        """How many low-resolution pixels beyond its own a sub-pixel sees."""
        return 2 + 2 * self.blocks


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """[B, h, w, factor^2 C] -> [B, factor h, factor w, C]; channel (a factor + b) C + c becomes sub-pixel (a, b)."""
    batch, height, width, depth = x.shape
    x = x.reshape(batch, height, width, factor, factor, depth // factor**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, factor * height, factor * width, -1)
