"""Classification of images by their codes: `python -m vae_jax.classify`."""
