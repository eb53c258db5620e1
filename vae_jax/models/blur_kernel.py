"""The network that predicts from a latent the blur of its image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.models.convolutions import relu


class BlurKernel(nn.Module):
    """z [B, latents] -> blur kernels [B, size, size], non-negative, that sum to 1.

    Dense layers of `hidden` units with ReLU, then a softmax over the kernel's pixels (Bredell et al. 2023; the softmax
    is from the same authors' W-DIP).
    """

    size: int = 11
    hidden: int = 1000
    layers: int = 2

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        x = z
        for i in range(self.layers):
            x = relu(nn.Dense(self.hidden, name=f"dense{i + 1}")(x))
        x = nn.softmax(nn.Dense(self.size**2, name="pixels")(x).astype(jnp.float32))
        return x.reshape(-1, self.size, self.size)
