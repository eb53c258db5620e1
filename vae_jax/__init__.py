"""vae_jax: variational autoencoders whose pictures are sharp."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_jax.inference import Model

__version__ = "0.2.0"


def load_model(workdir: str) -> "Model":
    """A trained autoencoder with encode, decode, reconstruct and sample, see `vae_jax.inference.Model`."""
    from vae_jax.inference import load_model  # so that `import vae_jax` is quick

    return load_model(workdir)
