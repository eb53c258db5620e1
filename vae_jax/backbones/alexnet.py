"""Torchvision's AlexNet (Krizhevsky 2014, one column).

Taps: `relu1` .. `relu5` after the convolutions, `pool5` after the last pooling, `fc6` and `fc7` after their ReLU,
`fc8`, the logits.
"""

from vae_jax.backbones import preprocessing
from vae_jax.backbones.contract import flax_backbone
from vae_jax.models.alexnet import AlexNet

TAPS = {
    "relu1": 7, "relu2": 15, "relu3": 31, "relu4": 31, "relu5": 31, "pool5": 63, "fc6": 63, "fc7": 63, "fc8": 63,
}  # fmt: skip

alexnet = flax_backbone(AlexNet(), preprocessing.torchvision, TAPS)
