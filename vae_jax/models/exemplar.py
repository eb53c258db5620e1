"""Exemplar-CNN: tells image patches apart, however they are moved, rotated, scaled and coloured.

Source: Dosovitskiy, Fischer, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with
exemplar convolutional neural networks", 2014 and 2016: the network 64c5-128c5-256c5-512f, max-pooling 2x2 after the
first two convolutions, dropout on the dense layer. Zero padding by two is from a Caffe deployment of their network
(asanakoy/hci_similarities, +exemplar_cnn/deploy_exemplar_cnn.prototxt), which pools 3x3 with stride 2 where the paper
says 2x2. Our choices: a dropout rate of one half, kernels from He's normal distribution, colours minus 0.5.
"""

import flax.linen as nn
import jax

from vae_jax.models.convolutions import relu
from vae_jax.models.layers import Conv, max_pool_2x2

he = nn.initializers.he_normal()


class ExemplarCnn(nn.Module):
    """[B, H, W, C] in [0, 1] -> every layer after its activation, by name.

    For 32x32: `relu1` [B, 32, 32, 64], `relu2` [B, 16, 16, 128], `relu3` [B, 8, 8, 256], `relu4` [B, 512] (after its
    dropout while training) and `logits` [B, classes]. With `taps`, no layer beyond the last of them is computed; the
    dense layers fix the image size.
    """

    classes: int = 8000
    dropout: float = 0.5
    widths: tuple[int, int, int] = (64, 128, 256)
    dense: int = 512

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, taps: tuple[str, ...] = ("logits",)) -> dict[str, jax.Array]:
        features = {}
        x = x - 0.5
        for i, width in enumerate(self.widths, 1):
            x = max_pool_2x2(x) if i > 1 else x
            conv = Conv(width, (5, 5), padding=2, kernel_init=he, name=f"conv{i}")
            features[f"relu{i}"] = x = relu(conv(x))
            if set(taps) <= features.keys():
                return features
        x = relu(nn.Dense(self.dense, kernel_init=he, name="dense")(x.reshape(x.shape[0], -1)))
        features["relu4"] = x = nn.Dropout(self.dropout, deterministic=not train)(x)
        if set(taps) <= features.keys():
            return features
        features["logits"] = nn.Dense(self.classes, kernel_init=he, name="logits")(x)
        return features
