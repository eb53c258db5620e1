"""Networks in Flax. An encoder maps images to (mean, logvar) [B, latents], a decoder latents to images in [0, 1].

A new network is one file and one line here. Encoders are called as `ENCODERS[name](latents, **options)`, decoders as
`DECODERS[name](image_shape, **options)`.
"""

from vae_jax.models.mnist import MnistDecoder, MnistEncoder
from vae_jax.models.residual import ResidualDecoder, ResidualEncoder

ENCODERS = {"mnist": MnistEncoder, "residual": ResidualEncoder}
DECODERS = {"mnist": MnistDecoder, "residual": ResidualDecoder}
