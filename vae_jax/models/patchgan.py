"""The PatchGAN discriminator (Isola, Zhu, Zhou, Efros 2017), with VQGAN's sizes (Esser et al. 2021).

It judges patches: each number of its map sees a square patch, 70x70 pixels in the published network of three layers.
"""

import flax.linen as nn
import jax

from vae_jax.models.layers import Conv, spectral

normal = nn.initializers.normal(0.02)
SLOPE = 0.2


def _scale_init(key, shape, dtype=None) -> jax.Array:
    return 1 + normal(key, shape, *(() if dtype is None else (dtype,)))


class PatchDiscriminator(nn.Module):
    """[B, H, W, C] in [0, 1] -> {'logits': a map [B, h, w]}, positive for what looks real.

    4x4 convolutions with a padding of 1: `layers` of stride 2, with `width`, 2 and 4 times `width` channels, then one
    of stride 1 with twice as many again, then the map. BatchNorm except in the first and the map, leaky ReLUs of slope
    0.2. Convolutions before BatchNorm have no bias. No width is more than 8 times the first. With `spectral_norm` every
    convolution has spectral normalisation and a bias, and there is no BatchNorm.
    """

    width: int = 64
    layers: int = 3
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        smallest = 3 * 2**self.layers
        if min(x.shape[1:3]) < smallest:
            raise ValueError(
                f"a patch discriminator of {self.layers} layers takes images of at least {smallest}x{smallest} pixels, "
                f"not {x.shape[1]}x{x.shape[2]}"
            )
        x = 2 * x - 1
        for i in range(self.layers + 1):
            stride = 2 if i < self.layers else 1
            width, plain = self.width * min(2**i, 8), i == 0 or self.spectral_norm
            x = self._conv(width, stride, f"conv{i + 1}", plain, train)(x)
            if not plain:
                norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, scale_init=_scale_init, name=f"norm{i + 1}")
                x = norm(x)
            x = nn.leaky_relu(x, SLOPE)
        return {"logits": self._conv(1, 1, "logits", True, train)(x)[..., 0]}

    def _conv(self, features: int, stride: int, name: str, use_bias: bool, train: bool):
        conv = Conv(features, (4, 4), (stride, stride), padding=1, use_bias=use_bias, kernel_init=normal, name=name)
        return spectral(conv, train) if self.spectral_norm else conv
