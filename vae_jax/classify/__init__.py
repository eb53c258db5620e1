"""What codes know of classes: `python -m vae_jax.classify`."""
