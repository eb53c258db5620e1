"""What latents know: `python -m vae_jax.latents`."""
