"""Exploration of latent spaces: `python -m vae_jax.latents`."""
