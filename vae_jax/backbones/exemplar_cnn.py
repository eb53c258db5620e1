"""Exemplar-CNN, the comparator of Dosovitskiy and Brox 2016 (DeePSiM) that is trained without labels.

Taps: `relu1`, `relu2`, `relu3` after the convolutions, for images of any size from their smallest up, and `relu4`, the
512 units, for images with an 8x8 `relu3`: 32 to 35 pixels high and wide. It sees RGB minus 0.5, as
`configs/exemplar_cnn.py` trains it; the layer of the surrogate classes is left out.
"""

from vae_jax.backbones import preprocessing
from vae_jax.backbones.contract import flax_backbone
from vae_jax.models.exemplar import ExemplarCnn

TAPS = {"relu1": 1, "relu2": 2, "relu3": 4, "relu4": 32}
LARGEST = {"relu4": 35}

exemplar_cnn = flax_backbone(ExemplarCnn(), preprocessing.to_rgb, TAPS, LARGEST)
