"""Training speed: `python -m vae_jax.bench`."""
