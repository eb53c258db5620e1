"""Comparison of trained runs: `python -m vae_jax.compare`."""
