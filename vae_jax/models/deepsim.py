"""The networks of DeePSiM (Dosovitskiy and Brox 2016): autoencoder, generators from features, discriminator.

Hidden layers have leaky ReLUs of slope 0.3, the image layer is linear. "Bed of nails" up-sampling followed by a
convolution is a transposed convolution of stride 2. Kernels are initialised from He's normal distribution for that
slope (He et al. 2015, equation 15); an output of a transposed convolution sums a quarter of its kernel. Images are in
[0, 1], but the networks work in [-1, 1]. `scale` narrows every layer except codes and images (1: as published).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.backbones import preprocessing
from vae_jax.models.alexnet import AlexNet
from vae_jax.models.layers import Conv, ConvTranspose2x, spectral

SLOPE = 0.3
HE = 2 / (1 + SLOPE**2)
he = nn.initializers.variance_scaling(HE, "fan_in", "normal")
he_up = nn.initializers.variance_scaling(4 * HE, "fan_in", "normal", in_axis=-1, out_axis=-2)
he_tenth = nn.initializers.variance_scaling(HE / 100, "fan_in", "normal")  # a tenth of it, as in the released files
HALVINGS = 3  # of height and width, in the autoencoder


def _active(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, SLOPE)


def _conv(features: int, name: str, kernel: int = 3, padding: int = 1) -> nn.Conv:
    return Conv(features, (kernel, kernel), padding=padding, kernel_init=he, name=name)


def _up(features: int, name: str) -> ConvTranspose2x:
    return ConvTranspose2x(features, kernel_size=4, kernel_init=he_up, name=name)


def _wide(features: int, scale: float) -> int:
    return max(1, round(features * scale))


class DeepsimEncoder(nn.Module):
    """[B, H, W, C] in [0, 1] -> code [B, H / 8, W / 8, latents]: the upper half of table 2."""

    latents: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        height, width = x.shape[1:3]
        if height % 2**HALVINGS or width % 2**HALVINGS:
            raise ValueError(f"the deepsim autoencoder needs sides that are multiples of 8, not {height}x{width}")
        x = 2 * x - 1
        for i, (features, kernel) in enumerate(((32, 5), (64, 5), (128, 3)), 1):
            features = _wide(features, self.scale)
            x = _active(Conv(features, (kernel,) * 2, 2, kernel // 2, kernel_init=he, name=f"conv{i}")(x))
            x = _active(_conv(features, f"conv{i}_1")(x))
        x = _active(_conv(_wide(64, self.scale), "conv4")(x))
        return _active(_conv(self.latents, "code")(x))


class DeepsimDecoder(nn.Module):
    """Code [B, H / 8, W / 8, latents] -> [B, H, W, C], linear, trained towards [0, 1]: the lower half of table 2."""

    shape: tuple[int, int, int]
    scale: float = 1.0
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        wide = [_wide(features, self.scale) for features in (64, 128, 64, 64, 32, 32, 16)]
        x = _active(_conv(wide[0], "conv4")(z))
        x = _active(_conv(wide[1], "conv3")(x))
        x = _active(_up(wide[2], "upconv3")(x))
        x = _active(_conv(wide[3], "conv2")(x))
        x = _active(_up(wide[4], "upconv2")(x))
        x = _active(_conv(wide[5], "conv1")(x))
        x = _active(_up(wide[6], "upconv1")(x))
        return (1 + _conv(self.shape[2], "image")(x)) / 2


class AlexNetEncoder(nn.Module):
    """[B, H, W, C] in [0, 1] -> mean, log-variance [B, latents]: AlexNet up to fc6, and dense layers (section 4.2).

    Its layers `alexnet` may start from ImageNet weights.
    """

    latents: int
    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    dense: int = 4096

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        network = AlexNet(self.widths, self.dense, name="alexnet")
        x = network(preprocessing.torchvision(x), ("fc6",))["fc6"]
        mean, logvar = (nn.Dense(self.latents, kernel_init=he, name=name)(x) for name in ("mean", "logvar"))
        return mean, logvar


def _doublings(x: jax.Array, shape: tuple[int, int, int], scale: float) -> jax.Array:
    """Table 5 from the convolution to 512 on: [B, h, w, c] -> the central `shape` of [B, 32 h, 32 w, C], linear."""
    x = _active(_conv(_wide(512, scale), "conv5")(x))
    for i, features in ((4, 256), (3, 128)):
        x = _active(_up(_wide(features, scale), f"upconv{i}")(x))
        x = _active(_conv(_wide(features, scale), f"conv{i}")(x))
    x = _active(_up(_wide(64, scale), "upconv2")(x))
    x = _active(_up(_wide(32, scale), "upconv1")(x))
    x = _up(shape[2], "upconv0")(x)
    top, left = ((made - wanted) // 2 for made, wanted in zip(x.shape[1:3], shape[:2], strict=True))
    if min(top, left) < 0:
        raise ValueError(f"the generator makes images of {x.shape[1]}x{x.shape[2]}, smaller than {shape[0]}x{shape[1]}")
    return (1 + x[:, top : top + shape[0], left : left + shape[1]]) / 2


class DeepsimGenerator(nn.Module):
    """[B, n] -> [B, *shape], linear, trained towards [0, 1]: table 5, for fc6 to fc8 and as the decoder of the VAE.

    227 pixels are the centre of 256 = 4 * 64; other sizes start from as many multiples of 64 as they need.
    """

    shape: tuple[int, int, int]
    scale: float = 1.0
    last_layer = "upconv0"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        height, width, features = -(-self.shape[0] // 64), -(-self.shape[1] // 64), _wide(256, self.scale)
        x = z
        for i, wide in ((7, _wide(4096, self.scale)), (6, _wide(4096, self.scale)), (5, height * width * features)):
            x = _active(nn.Dense(wide, kernel_init=he, name=f"dense{i}")(x))
        x = _active(_up(features, "upconv5")(x.reshape(-1, height, width, features)))
        return _doublings(x, self.shape, self.scale)


class DeepsimConvGenerator(nn.Module):
    """Features [B, h, w, c] -> [B, *shape], linear: for conv5, convolutions instead of the dense layers.

    The first one pads by two: AlexNet's 6x6 become 8x8, and after five doublings 256 pixels, as from fc6.
    """

    shape: tuple[int, int, int]
    scale: float = 1.0
    last_layer = "upconv0"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        x = z
        for i, padding in ((8, 2), (7, 1), (6, 1)):
            x = _active(_conv(_wide(256, self.scale), f"conv{i}", padding=padding)(x))
        return _doublings(x, self.shape, self.scale)


class DeepsimDiscriminator(nn.Module):
    """[B, H, W, C] in [0, 1] -> {'logits': [B]}, positive for what looks real: table 1, stride 2 or 4 first.

    The logit is the difference of the two-way softmax's logits. `features` [B, ...], if given, go through two dense
    layers and join the pooled image. Dropout of one half after the pooling and after the dense layer. With
    `spectral_norm` every layer has spectral normalisation.
    """

    stride: int = 2
    scale: float = 1.0
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, features: jax.Array | None = None) -> dict[str, jax.Array]:
        layers = ((32, 7, self.stride), (64, 5, 1), (128, 3, 2), (256, 3, 1), (256, 3, 2))
        x = 2 * x - 1
        for i, (wide, kernel, stride) in enumerate(layers, 1):
            if min(x.shape[1:3]) < kernel:
                raise ValueError(f"conv{i} of the deepsim discriminator needs {kernel}x{kernel} pixels, not {x.shape}")
            wide, name = _wide(wide, self.scale), f"conv{i}"
            conv = Conv(wide, (kernel,) * 2, (stride,) * 2, "VALID", kernel_init=he, name=name)
            x = _active(self._layer(conv, train)(x))
        x = jnp.mean(x, axis=(1, 2))
        if features is not None:
            x = jnp.concatenate([x, self._embedded(features, train)], axis=1)
        x = nn.Dropout(0.5, deterministic=not train, name="dropout5")(x)
        x = _active(self._layer(nn.Dense(_wide(512, self.scale), kernel_init=he_tenth, name="dense6"), train)(x))
        x = nn.Dropout(0.5, deterministic=not train, name="dropout6")(x)
        logits = self._layer(nn.Dense(2, kernel_init=he_tenth, name="dense7"), train)(x)  # fake, real
        return {"logits": logits[:, 1] - logits[:, 0]}

    def _layer(self, layer: nn.Module, train: bool):
        return spectral(layer, train) if self.spectral_norm else layer

    def _embedded(self, features: jax.Array, train: bool) -> jax.Array:
        x = features.reshape(features.shape[0], -1)
        for i, wide in ((1, 1024), (2, 512)):
            dense = nn.Dense(_wide(wide, self.scale), kernel_init=he, name=f"features{i}")
            x = _active(self._layer(dense, train)(x))
        return x
