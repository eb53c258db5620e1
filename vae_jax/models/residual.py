"""Residual networks without normalisation, for images whose sides are multiples of four.

Every block starts as the identity (its second convolution is initialised with zero; Zhang et al. 2019, Fixup), so that
depth does not cost stability.
"""

import flax.linen as nn
import jax

from vae_jax.models.layers import Conv, ConvTranspose2x

he = nn.initializers.he_normal()


def _conv(features: int, name: str, stride: int = 1, kernel_init=he) -> nn.Conv:
    return Conv(features, (3, 3), (stride, stride), "SAME", kernel_init=kernel_init, name=name)


class ResidualBlock(nn.Module):
    """x + conv(swish(conv(swish(x)))), [B, H, W, C] -> the same."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = _conv(x.shape[-1], "conv1")(nn.swish(x))
        return x + _conv(x.shape[-1], "conv2", kernel_init=nn.initializers.zeros)(nn.swish(y))


class ResidualEncoder(nn.Module):
    """[B, H, W, C] in [0, 1] -> mean, log-variance [B, latents]; two halvings, then `blocks` at H/4 x W/4."""

    latents: int
    width: int = 64
    blocks: int = 2
    hidden: int = 256

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        x = _conv(self.width // 2, "down1", stride=2)(x)  # [B, H/2, W/2, width/2]
        x = _conv(self.width, "down2", stride=2)(nn.swish(x))  # [B, H/4, W/4, width]
        for i in range(self.blocks):
            x = ResidualBlock(name=f"block{i + 1}")(x)
        x = nn.swish(x).reshape(x.shape[0], -1)
        x = nn.swish(nn.Dense(self.hidden, kernel_init=he, name="dense")(x))
        return nn.Dense(self.latents, name="mean")(x), nn.Dense(self.latents, name="logvar")(x)


class ResidualDecoder(nn.Module):
    """[B, latents] -> [B, *shape] in [0, 1]; `blocks` at H/4 x W/4, then two doublings."""

    shape: tuple[int, int, int]
    width: int = 64
    blocks: int = 2
    hidden: int = 256
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        height, width, channels = self.shape
        if height % 4 or width % 4:
            raise ValueError(f"the residual decoder makes images whose sides are multiples of four, not {self.shape}")
        x = nn.swish(nn.Dense(self.hidden, kernel_init=he, name="dense1")(z))
        x = nn.Dense(height // 4 * (width // 4) * self.width, kernel_init=he, name="dense2")(x)
        x = x.reshape(-1, height // 4, width // 4, self.width)  # [B, H/4, W/4, width]
        for i in range(self.blocks):
            x = ResidualBlock(name=f"block{i + 1}")(x)
        x = ConvTranspose2x(self.width, kernel_init=he, name="up1")(nn.swish(x))  # [B, H/2, W/2, width]
        x = ConvTranspose2x(self.width // 2, kernel_init=he, name="up2")(nn.swish(x))  # [B, H, W, width/2]
        return nn.sigmoid(_conv(channels, "image", kernel_init=nn.initializers.glorot_uniform())(nn.swish(x)))
