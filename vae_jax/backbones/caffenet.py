"""Caffe's one-column AlexNet, two comparators of Dosovitskiy and Brox 2016 (DeePSiM).

`caffenet` is Caffe's bvlc_reference_caffenet, trained on ImageNet's classes; `videonet` has the same convolutions,
which Wang and Gupta 2015 trained to track patches through videos. Both pool before they normalise; the other variant,
bvlc_alexnet, normalises first. Layers and sizes are those of BVLC/caffe's models/bvlc_reference_caffenet and of
xiaolonw/caffe-video_triplet's rank_scripts/rank_alexnet/unsup_net_deploy.prototxt.

Taps: `relu1` .. `relu5` after the convolutions (Caffe's blobs `conv1` .. `conv5`, whose ReLU is in place), `pool5`, and
in CaffeNet `fc6` and `fc7` after their ReLU and `fc8`, the logits. CaffeNet was trained on crops of 227x227; its dense
layers take every image with a 6x6 `pool5`, 199 to 230 pixels high and wide; the other taps take any size from their
smallest up. Both see colours minus CaffeNet's mean; VideoNet's authors subtract the mean image of their videos.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.backbones import preprocessing
from vae_jax.backbones.contract import flax_backbone
from vae_jax.models.convolutions import grouped_conv, relu
from vae_jax.models.layers import Conv, max_pool_3x3

CONVOLUTIONS = {"relu1": 11, "relu2": 15, "relu3": 23, "relu4": 23, "relu5": 23, "pool5": 39}
DENSE = {"fc6": 199, "fc7": 199, "fc8": 199}
DENSE_LARGEST = dict.fromkeys(DENSE, 230)


def local_response_norm(x: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> jax.Array:
    """x [..., C] / (1 + alpha / size * sum of squares over the `size` channels around each)^beta, as Caffe's LRN."""
    around = [(0, 0)] * (x.ndim - 1) + [(size // 2, size // 2)]
    squares = jnp.pad(x * x, around)
    total = sum(squares[..., i : i + x.shape[-1]] for i in range(size))
    return x * (1 + alpha / size * total) ** -beta


class GroupedConv(nn.Module):
    """Convolution of stride 1 in groups: the i-th group of outputs sees the i-th group of channels only.

    The kernel is [size, size, in / groups, out], as in nn.Conv. Each group is a convolution of its own: on CPU, XLA's
    grouped convolutions are several times slower.
    """

    features: int
    size: int
    groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        padding = ((self.size // 2, self.size // 2),) * 2
        return grouped_conv(x, kernel, padding, self.groups) + bias.reshape(1, 1, 1, -1)


class CaffeNet(nn.Module):
    """[B, H, W, 3], preprocessed -> {tap: [B, h, w, c], or [B, c] from fc6 on}."""

    widths: tuple[int, ...] = (96, 256, 384, 384, 256)
    dense: int = 4096
    classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, taps: tuple[str, ...]) -> dict[str, jax.Array]:
        features = {}
        first = Conv(self.widths[0], (11, 11), (4, 4), padding=0, name="conv1")
        others = zip(self.widths[1:], (5, 3, 3, 3), (2, 1, 2, 2), strict=True)
        others = [GroupedConv(*layer, name=f"conv{i}") for i, layer in enumerate(others, 2)]
        for i, layer in enumerate((first, *others), 1):
            if i in (2, 3):
                x = local_response_norm(max_pool_3x3(x, ceil_mode=True))
            features[f"relu{i}"] = x = relu(layer(x))
            if set(taps) <= features.keys():
                return features
        features["pool5"] = x = max_pool_3x3(x, ceil_mode=True)
        if set(taps) <= features.keys():
            return features
        x = x.reshape(x.shape[0], -1)  # height, width, channel: the converter reorders Caffe's rows
        features["fc6"] = x = relu(nn.Dense(self.dense, name="fc6")(x))
        features["fc7"] = x = relu(nn.Dense(self.dense, name="fc7")(x))
        features["fc8"] = nn.Dense(self.classes, name="fc8")(x)
        return features


caffenet = flax_backbone(CaffeNet(), preprocessing.caffenet, CONVOLUTIONS | DENSE, DENSE_LARGEST)
videonet = flax_backbone(CaffeNet(), preprocessing.caffenet, CONVOLUTIONS)
