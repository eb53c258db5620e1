"""How fast a config trains: `python -m vae_jax.bench`."""
