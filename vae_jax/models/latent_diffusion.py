"""The autoencoder networks of latent diffusion (Rombach et al. 2022, appendix E.1 and released code, kl-f4 and kl-f8).

Residual blocks with GroupNorm and swish; one level for each of `multipliers`, between levels height and width are
halved or doubled; attention between two blocks at the smallest size. Latents are a map [B, h, w, latents], in which
each number sees the whole image. Images are in [0, 1], but the networks work in [-1, 1]. Layers have the released
code's kernels, padding and order; weights are initialised from torch's U(-1, 1) / sqrt(inputs), biases with 0.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.models.layers import Conv, NearestConv2x

GROUPS = 32
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _conv(features: int, name: str, stride: int = 1) -> nn.Conv:
    """3x3; at stride 2, `SAME` pads by 1 at the bottom and on the right."""
    return Conv(features, (3, 3), (stride, stride), "SAME", kernel_init=torch_default, name=name)


def _dense(features: int, name: str) -> nn.Dense:
    """A 1x1 convolution."""
    return nn.Dense(features, kernel_init=torch_default, name=name)


def _norm(x: jax.Array, name: str) -> jax.Array:
    """In 32 groups as released, whose layers have 128 channels or more; narrower ones in groups of four channels."""
    return nn.GroupNorm(min(GROUPS, x.shape[-1] // 4), epsilon=1e-6, name=name)(x)


class ResnetBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), [B, H, W, C] -> [B, H, W, features]; x goes through a 1x1
    convolution if the channels change."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = _conv(self.features, "conv1")(nn.swish(_norm(x, "norm1")))
        y = _conv(self.features, "conv2")(nn.swish(_norm(y, "norm2")))
        if x.shape[-1] != self.features:
            x = _dense(self.features, "shortcut")(x)
        return x + y


class Attention(nn.Module):
    """x + out(softmax(q k^T / sqrt(C)) v) over all pixels, with one head, [B, h, w, C] -> the same."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        y = _norm(x, "norm").reshape(batch, height * width, channels)
        q, k, v = (_dense(channels, name)(y) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=jnp.float32) / channels**0.5
        weights = nn.softmax(scores).astype(v.dtype)
        y = jnp.einsum("bqk,bkc->bqc", weights, v)
        return x + _dense(channels, "out")(y).reshape(x.shape)


def _middle(x: jax.Array) -> jax.Array:
    x = ResnetBlock(x.shape[-1], name="middle1")(x)
    return ResnetBlock(x.shape[-1], name="middle2")(Attention(name="attention")(x))


class LatentDiffusionEncoder(nn.Module):
    """[B, H, W, C] in [0, 1] -> mean, log-variance [B, H/f, W/f, latents], with f = 2^(levels - 1)."""

    latents: int
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        factor = 2 ** (len(self.multipliers) - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"this encoder takes images whose sides are multiples of {factor}, not {x.shape[1:3]}")
        x = _conv(self.width, "conv_in")(2 * x - 1)
        for level, multiplier in enumerate(self.multipliers):
            if level:
                x = _conv(x.shape[-1], f"down{level}", stride=2)(x)  # [B, H / 2^level, W / 2^level, C]
            for i in range(self.blocks):
                x = ResnetBlock(self.width * multiplier, name=f"level{level}_block{i + 1}")(x)
        x = _conv(2 * self.latents, "conv_out")(nn.swish(_norm(_middle(x), "norm_out")))
        mean, logvar = jnp.split(_dense(2 * self.latents, "moments")(x), 2, axis=-1)
        return mean, logvar


class LatentDiffusionDecoder(nn.Module):
    """[B, H/f, W/f, latents] -> [B, *shape], linear, trained towards [0, 1]; one block more in each level."""

    shape: tuple[int, int, int]
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        x = _conv(self.width * self.multipliers[-1], "conv_in")(_dense(z.shape[-1], "latents")(z))
        x = _middle(x)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for i in range(self.blocks + 1):
                x = ResnetBlock(self.width * multiplier, name=f"level{level}_block{i + 1}")(x)
            if level:
                up = NearestConv2x(x.shape[-1], padding="constant", kernel_init=torch_default, name=f"up{level}")
                x = up(x)  # [B, H / 2^(level - 1), W / 2^(level - 1), C]
        if x.shape[1:3] != tuple(self.shape[:2]):
            raise ValueError(
                f"this decoder makes images of {x.shape[1:3]} from latents {z.shape[1:]}, not {self.shape}"
            )
        return (1 + _conv(self.shape[2], "image")(nn.swish(_norm(x, "norm_out")))) / 2
