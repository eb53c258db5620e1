"""FaceNet: Inception-ResNet-v1 (Szegedy et al. 2016) as trained by davidsandberg/facenet, computed as facenet-pytorch.

Taps: the first three convolutions, after batch normalisation and ReLU, and `embedding`, a unit vector per face. Every
image is resized to 160x160 first. Layers are named as in davidsandberg/facenet.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.backbones import preprocessing
from vae_jax.backbones.contract import flax_backbone
from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, max_pool_3x3

CONVOLUTIONS = (  # outside the blocks
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Conv2d_4b_3x3",
)  # fmt: skip
TAPS = {"Conv2d_1a_3x3": 1, "Conv2d_2a_3x3": 1, "Conv2d_2b_3x3": 1, "embedding": 1}

# The convolutions of every branch: channels, height and width of the kernel
Branches = tuple[tuple[tuple[int, int, int], ...], ...]
BLOCK35 = (((32, 1, 1),), ((32, 1, 1), (32, 3, 3)), ((32, 1, 1), (32, 3, 3), (32, 3, 3)))
BLOCK17 = (((128, 1, 1),), ((128, 1, 1), (128, 1, 7), (128, 7, 1)))
BLOCK8 = (((192, 1, 1),), ((192, 1, 1), (192, 1, 3), (192, 3, 1)))
MIXED_6A = (((384, 3, 3),), ((192, 1, 1), (192, 3, 3), (256, 3, 3)))
MIXED_7A = (((256, 1, 1), (384, 3, 3)), ((256, 1, 1), (256, 3, 3)), ((256, 1, 1), (256, 3, 3), (256, 3, 3)))


def l2_normalize(x: jax.Array) -> jax.Array:
    """[B, n] -> unit vectors, or 1e5 * x where that is shorter, so that no gradient grows more than 1e5 times.

    The bound is davidsandberg/facenet's; facenet-pytorch's is 1e12.
    """
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=1, keepdims=True), 1e-10))


class FrozenBatchNorm(nn.Module):
    """Batch normalisation [..., C] by stored statistics, which are weights here."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def vector(name: str, initializer) -> jax.Array:
            return self.param(name, initializer, x.shape[-1:]).reshape((1,) * (x.ndim - 1) + x.shape[-1:])

        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        slope = vector("scale", ones) * jax.lax.rsqrt(vector("var", ones) + 0.001)
        return (x - vector("mean", zeros)) * slope + vector("bias", zeros)


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stride = (self.stride, self.stride)
        x = Conv(self.features, self.kernel, stride, self.padding, use_bias=False, name="conv")(x)
        return relu(FrozenBatchNorm(name="norm")(x))


def inception(x: jax.Array, branches: Branches, width: int, reduce: bool = False) -> list[jax.Array]:
    """The branches of a block on [B, H, W, C]: [B, H, W, c] each, by submodules of the calling block.

    With `reduce` the last convolution of every branch has stride 2 and no padding: [B, (H - 1) // 2, (W - 1) // 2, c].
    """
    outputs = []
    for i, branch in enumerate(branches):
        y = x
        for j, (channels, h, w) in enumerate(branch):
            last = reduce and j == len(branch) - 1
            stride, padding = (2, (0, 0)) if last else (1, (h // 2, w // 2))
            y = ConvNorm(channels * width // 32, (h, w), stride, padding, name=f"branch{i}_{j}")(y)
        outputs.append(y)
    return outputs


class Mixed(nn.Module):
    """Branches and a max-pooling side by side, [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, all their channels]."""

    branches: Branches
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = inception(x, self.branches, self.width, reduce=True)
        return jnp.concatenate([*outputs, max_pool_3x3(x)], axis=-1)


class Residual(nn.Module):
    """x + scale * (branches projected to x's channels), then ReLU except in the last: [B, H, W, C] -> the same."""

    branches: Branches
    width: int
    scale: float
    last: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.concatenate(inception(x, self.branches, self.width), axis=-1)
        x = x + self.scale * Conv(x.shape[-1], (1, 1), padding=0, name="up")(y)
        return x if self.last else relu(x)


class FaceNet(nn.Module):
    """[B, H, W, 3], preprocessed -> {tap: [B, h, w, c]; `embedding`: [B, 512]}; H, W >= 75 reach the embedding."""

    width: int = 32  # channels of the first convolution; the others scale with it

    @nn.compact
    def __call__(self, x: jax.Array, taps: tuple[str, ...]) -> dict[str, jax.Array]:
        def conv(name: str, channels: int, size: int, stride: int = 1, padding: int = 0) -> ConvNorm:
            return ConvNorm(channels * self.width // 32, (size, size), stride, (padding, padding), name=name)

        def blocks(name: str, branches: Branches, count: int, scale: float) -> list[Residual]:
            return [Residual(branches, self.width, scale, name=f"{name}_{i + 1}") for i in range(count)]

        features = {}
        for layer in (
            conv("Conv2d_1a_3x3", 32, 3, stride=2),
            conv("Conv2d_2a_3x3", 32, 3),
            conv("Conv2d_2b_3x3", 64, 3, padding=1),
        ):
            features[layer.name] = x = layer(x)
            if set(taps) <= features.keys():
                return features
        for layer in (
            max_pool_3x3,
            conv("Conv2d_3b_1x1", 80, 1),
            conv("Conv2d_4a_3x3", 192, 3),
            conv("Conv2d_4b_3x3", 256, 3, stride=2),
            *blocks("Block35", BLOCK35, 5, 0.17),
            Mixed(MIXED_6A, self.width, name="Mixed_6a"),
            *blocks("Block17", BLOCK17, 10, 0.1),
            Mixed(MIXED_7A, self.width, name="Mixed_7a"),
            *blocks("Block8", BLOCK8, 5, 0.2),
            Residual(BLOCK8, self.width, 1.0, last=True, name="Block8_6"),
        ):
            x = layer(x)
        x = nn.Dense(512 * self.width // 32, use_bias=False, name="Bottleneck")(x.mean((1, 2)))
        features["embedding"] = l2_normalize(FrozenBatchNorm(name="Bottleneck_norm")(x))
        return features


facenet = flax_backbone(FaceNet(), preprocessing.facenet, TAPS)
