"""Networks in Flax. An encoder maps images to (mean, logvar) [B, latents], a decoder latents to images.

Both are called with `train`, which normalisation layers need: batch statistics while training, running ones after.
A new network is one file and one line here. Encoders are called as `ENCODERS[name](latents, **options)`, decoders as
`DECODERS[name](image_shape, **options)`.
"""

from vae_jax.models.celeba import CelebaDecoder, CelebaEncoder
from vae_jax.models.mnist import MnistDecoder, MnistEncoder
from vae_jax.models.residual import ResidualDecoder, ResidualEncoder

ENCODERS = {"mnist": MnistEncoder, "residual": ResidualEncoder, "celeba": CelebaEncoder}
DECODERS = {"mnist": MnistDecoder, "residual": ResidualDecoder, "celeba": CelebaDecoder}
