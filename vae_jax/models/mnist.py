"""The networks of the DFC-VAE article on MNIST: encoder, decoder and the classifier that is its perceptual model.

Source: krasserm/bayesian-machine-learning, autoencoder-applications (the article's layers and sizes). Kernels are
initialised from Glorot's uniform distribution and biases with zero, Keras's defaults.
"""

import math

import flax.linen as nn
import jax

from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, ConvTranspose2x, max_pool_2x2

glorot = nn.initializers.glorot_uniform()


def _conv(features: int, name: str, stride: int = 1, padding: str = "SAME") -> nn.Conv:
    return Conv(features, (3, 3), (stride, stride), padding, kernel_init=glorot, name=name)


def _dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=glorot, name=name)


class MnistEncoder(nn.Module):
    """[B, H, W, C] in [0, 1] -> mean, log-variance [B, latents]; 494,442 parameters for 28x28x1 and 5 latents."""

    latents: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        x = relu(_conv(32, "conv1")(x))  # [B, 28, 28, 32]
        x = relu(_conv(64, "conv2", stride=2)(x))  # [B, 14, 14, 64]
        x = relu(_conv(64, "conv3")(x))
        x = relu(_conv(64, "conv4")(x))
        x = relu(_dense(32, "dense")(x.reshape(x.shape[0], -1)))
        return _dense(self.latents, "mean")(x), _dense(self.latents, "logvar")(x)


class MnistDecoder(nn.Module):
    """[B, latents] -> [B, *shape] in [0, 1]; 94,017 parameters for 28x28x1 and 5 latents."""

    shape: tuple[int, int, int]
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        height, width, channels = self.shape
        small = (math.ceil(height / 2), math.ceil(width / 2), 64)
        x = relu(_dense(math.prod(small), "dense")(z)).reshape(-1, *small)  # [B, 14, 14, 64]
        x = relu(ConvTranspose2x(32, name="upconv")(x))[:, :height, :width]  # [B, 28, 28, 32]
        return nn.sigmoid(_conv(channels, "image")(x))


class MnistClassifier(nn.Module):
    """[B, H, W, C] in [0, 1] -> every layer after its activation, by name; 93,322 parameters for 28x28x1.

    `relu1` [B, 26, 26, 32] and `relu2` [B, 11, 11, 64] are the article's `conv2d_6` and `conv2d_7`. With
    `convolutions_only` the dense layers, which fix the image size, are left out.
    """

    classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, convolutions_only: bool = False) -> dict[str, jax.Array]:
        taps = {}
        taps["relu1"] = x = relu(_conv(32, "conv1", padding="VALID")(x))
        taps["relu2"] = x = relu(_conv(64, "conv2", padding="VALID")(max_pool_2x2(x)))
        taps["relu3"] = x = relu(_conv(64, "conv3", padding="VALID")(max_pool_2x2(x)))  # [B, 3, 3, 64]
        if convolutions_only:
            return taps
        taps["relu4"] = x = relu(_dense(64, "dense")(x.reshape(x.shape[0], -1)))
        taps["logits"] = _dense(self.classes, "logits")(x)
        return taps
