"""VGG16 and VGG19 (Simonyan and Zisserman 2015): the convolutions, with a tap after every ReLU.

`vgg16` and `vgg19` use torchvision's preprocessing. `vgg16_caffe` and `vgg19_caffe` are the same networks for the
original weights, with Caffe's BGR images in 0..255. Weights and preprocessing belong together, and so do weights and
loss weights: torchvision's features are smaller than Caffe's.
"""

import flax.linen as nn
import jax

from vae_jax.backbones import preprocessing
from vae_jax.backbones.contract import Backbone, flax_backbone
from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, max_pool_2x2

VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


class Vgg(nn.Module):
    """[B, H, W, 3], preprocessed -> {tap: [B, h, w, c]}; `relu3_1` is the first tap of the third block."""

    convolutions: tuple[int, ...]  # by block
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, taps: tuple[str, ...]) -> dict[str, jax.Array]:
        features = {}
        for block, count in enumerate(self.convolutions, 1):
            width = self.width * min(2 ** (block - 1), 8)
            for i in range(1, count + 1):
                conv = Conv(width, (3, 3), padding=1, name=f"conv{block}_{i}")
                features[f"relu{block}_{i}"] = x = relu(conv(x))
                if set(taps) <= features.keys():
                    return features
            x = max_pool_2x2(x)
        return features


def vgg_taps(convolutions: tuple[int, ...]) -> dict[str, int]:
    """Every tap with the smallest image that reaches it: each block but the first halves height and width."""
    return {
        f"relu{block}_{i}": 2 ** (block - 1)
        for block, count in enumerate(convolutions, 1)
        for i in range(1, count + 1)
    }  # fmt: skip


def _vgg(convolutions: tuple[int, ...], preprocess) -> Backbone:
    return flax_backbone(Vgg(convolutions), preprocess, vgg_taps(convolutions))


vgg16 = _vgg(VGG16, preprocessing.torchvision)
vgg19 = _vgg(VGG19, preprocessing.torchvision)
vgg16_caffe = _vgg(VGG16, preprocessing.caffe)
vgg19_caffe = _vgg(VGG19, preprocessing.caffe)
