"""The networks of the DFC-VAE on faces (Hou, Shen, Sun, Qiu 2017), for square images of 4 * 2^n pixels.

At 64 pixels as in the paper, at 128 as in the authors' code: n halvings by strided convolutions down to 4x4, and n
doublings by nearest-neighbour up-sampling, edge padding and a 3x3 convolution. Convolutions before a BatchNorm have no
bias, which the normalisation would cancel. Weights are initialised from N(0, 0.02^2), BatchNorm's scales from
N(1, 0.02^2), dense layers from torch's default U(-1, 1) / sqrt(inputs).
"""

import flax.linen as nn
import jax

from vae_jax.models.layers import Conv, NearestConv2x

normal = nn.initializers.normal(0.02)
torch_dense = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
SMALL = 4  # the smallest height and width


def one_and_normal(key: jax.Array, shape, dtype=None) -> jax.Array:
    """BatchNorm's scale, N(1, 0.02^2)."""
    return 1 + normal(key, shape)


def halvings(height: int, width: int) -> int:
    """n for a square image of 4 * 2^n pixels; ValueError for any other."""
    n = (height // SMALL).bit_length() - 1
    if height != width or height != SMALL * 2**n or n < 1:
        raise ValueError(
            f"the celeba networks take square images of 8, 16, 32, 64, 128 ... pixels, not {height}x{width}"
        )
    return n


def _norm(train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, scale_init=one_and_normal, name=name)


class CelebaEncoder(nn.Module):
    """[B, H, H, C] in [0, 1] -> mean, log-variance [B, latents]; widths 32, 64, 128, 256, 256 ..."""

    latents: int
    slope: float = 0.2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        for i in range(halvings(*x.shape[1:3])):
            width = min(32 * 2**i, 256)
            conv = Conv(width, (4, 4), (2, 2), 1, use_bias=False, kernel_init=normal, name=f"conv{i + 1}")
            x = nn.leaky_relu(_norm(train, f"norm{i + 1}")(conv(x)), self.slope)  # [B, H / 2^(i + 1), ..., width]
        x = x.reshape(x.shape[0], -1)
        mean, logvar = (nn.Dense(self.latents, kernel_init=torch_dense, name=name) for name in ("mean", "logvar"))
        return mean(x), logvar(x)


class CelebaDecoder(nn.Module):
    """[B, latents] -> [B, *shape]; widths 256 (64 pixels) or 512 (128 pixels), halved at each doubling.

    There is no output activation, unless `sigmoid`: whoever shows or judges the image clips it to [0, 1].
    """

    shape: tuple[int, int, int]
    slope: float = 0.2
    sigmoid: bool = False
    last_layer = "image"

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        n = halvings(*self.shape[:2])
        width = min(16 * 2**n, 512)
        x = nn.Dense(SMALL * SMALL * width, kernel_init=torch_dense, name="dense")(z).reshape(-1, SMALL, SMALL, width)
        for i in range(n - 1):
            width //= 2
            x = NearestConv2x(width, use_bias=False, kernel_init=normal, name=f"conv{i + 1}")(x)
            x = nn.leaky_relu(_norm(train, f"norm{i + 1}")(x), self.slope)
        x = NearestConv2x(self.shape[2], kernel_init=normal, name="image")(x)
        return nn.sigmoid(x) if self.sigmoid else x
