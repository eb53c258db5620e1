"""vae_jax: variational autoencoders whose pictures are sharp."""

from typing import Any


def load_model(workdir: Any):
    """A trained autoencoder with encode, decode, reconstruct and sample, see `vae_jax.inference.Model`."""
    from vae_jax.inference import load_model  # so that `import vae_jax` is quick

    return load_model(workdir)
