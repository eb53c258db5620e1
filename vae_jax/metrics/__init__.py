"""What a reconstruction is judged by: `metric(target, recon) -> [B]` of images [B, H, W, C] in [0, 1].

A new metric is one file and one line here.
"""

from vae_jax.losses.pixel import bce
from vae_jax.metrics.laplacian import laplacian_variance as laplacian_variance
from vae_jax.metrics.laplacian import recon_laplacian_variance, residual_laplacian_variance, target_laplacian_variance
from vae_jax.metrics.pixel import mse, psnr
from vae_jax.metrics.sharpness import blur_percent
from vae_jax.metrics.ssim import ssim

METRICS = {
    "mse": mse,
    "psnr": psnr,
    "ssim": ssim,
    "bce": bce,
    "laplacian_variance": recon_laplacian_variance,
    "target_laplacian_variance": target_laplacian_variance,
    "residual_laplacian_variance": residual_laplacian_variance,
    "blur_percent": blur_percent,
}
