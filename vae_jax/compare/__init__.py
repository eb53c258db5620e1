"""Trained runs side by side: `python -m vae_jax.compare`."""
