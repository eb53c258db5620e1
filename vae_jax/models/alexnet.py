"""Torchvision's AlexNet (Krizhevsky 2014, one column), convolutions and dense layers."""

import flax.linen as nn
import jax

from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, adaptive_average_pool, max_pool_3x3

POOLED = 6  # height and width that the dense layers see


class AlexNet(nn.Module):
    """[B, H, W, 3], preprocessed -> {tap: [B, h, w, c], or [B, c] from fc6 on}."""

    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    dense: int = 4096
    classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, taps: tuple[str, ...]) -> dict[str, jax.Array]:
        features = {}
        kernels, strides, paddings = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
        for i in range(1, 6):
            if i in (2, 3):
                x = max_pool_3x3(x)
            kernel, stride = (kernels[i - 1],) * 2, (strides[i - 1],) * 2
            conv = Conv(self.widths[i - 1], kernel, stride, paddings[i - 1], name=f"conv{i}")
            features[f"relu{i}"] = x = relu(conv(x))
            if set(taps) <= features.keys():
                return features
        features["pool5"] = x = max_pool_3x3(x)
        if set(taps) <= features.keys():
            return features
        x = adaptive_average_pool(x, POOLED)
        x = x.reshape(x.shape[0], -1)  # height, width, channel: the converter reorders torchvision's rows
        features["fc6"] = x = relu(nn.Dense(self.dense, name="fc6")(x))
        if set(taps) <= features.keys():
            return features
        features["fc7"] = x = relu(nn.Dense(self.dense, name="fc7")(x))
        features["fc8"] = nn.Dense(self.classes, name="fc8")(x)
        return features
