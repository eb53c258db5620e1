"""Networks in Flax. An encoder maps images to (mean, logvar) [B, latents], or to a code of any shape if encoding is
deterministic; a decoder maps latents to images, a discriminator images to its layers by name, among them `logits` [B]
or a map of them, [B, h, w], a classifier likewise, with `logits` [B, classes]. An upscaler is the decoder of a code of
images `factor` times smaller. `last_layer` of a decoder or upscaler is the name of the layer that makes the image.

All are called with `train`, for normalisation (batch statistics while training, running ones after) and for dropout,
which needs a key. A new network is one file and one line here. They are made as
`ENCODERS[name](latents, **options)`, `DECODERS[name](image_shape, **options)`, `UPSCALERS[name](image_shape, factor,
**options)`, `DISCRIMINATORS[name](**options)`, `CLASSIFIERS[name](classes, **options)` and, for the blur kernels of
latents, `KERNELS[name](**options)`.
"""

from vae_jax.models.blur_kernel import BlurKernel
from vae_jax.models.celeba import CelebaDecoder, CelebaEncoder
from vae_jax.models.deepsim import (
    AlexNetEncoder,
    DeepsimConvGenerator,
    DeepsimDecoder,
    DeepsimDiscriminator,
    DeepsimEncoder,
    DeepsimGenerator,
)
from vae_jax.models.exemplar import ExemplarCnn
from vae_jax.models.larsen import LarsenDecoder, LarsenDiscriminator, LarsenEncoder
from vae_jax.models.latent_diffusion import LatentDiffusionDecoder, LatentDiffusionEncoder
from vae_jax.models.mnist import MnistClassifier, MnistDecoder, MnistEncoder
from vae_jax.models.patchgan import PatchDiscriminator
from vae_jax.models.residual import ResidualDecoder, ResidualEncoder
from vae_jax.models.super_resolution import SpatialEncoder, SpatialUpscaler, VectorEncoder, VectorUpscaler

ENCODERS = {
    "mnist": MnistEncoder,
    "residual": ResidualEncoder,
    "celeba": CelebaEncoder,
    "larsen": LarsenEncoder,
    "deepsim": DeepsimEncoder,
    "alexnet": AlexNetEncoder,
    "latent_diffusion": LatentDiffusionEncoder,
    "sr_vector": VectorEncoder,
    "sr_spatial": SpatialEncoder,
}
DECODERS = {
    "mnist": MnistDecoder,
    "residual": ResidualDecoder,
    "celeba": CelebaDecoder,
    "larsen": LarsenDecoder,
    "deepsim": DeepsimDecoder,
    "deepsim_generator": DeepsimGenerator,
    "deepsim_conv_generator": DeepsimConvGenerator,
    "latent_diffusion": LatentDiffusionDecoder,
}
UPSCALERS = {"sr_vector": VectorUpscaler, "sr_spatial": SpatialUpscaler}
DISCRIMINATORS = {"larsen": LarsenDiscriminator, "deepsim": DeepsimDiscriminator, "patchgan": PatchDiscriminator}
CLASSIFIERS = {"mnist": MnistClassifier, "exemplar": ExemplarCnn}
KERNELS = {"dense": BlurKernel}
