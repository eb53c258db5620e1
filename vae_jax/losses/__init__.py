"""Loss terms: pure functions of equal-shape arrays that return one unweighted value per example, [B].

Weights, schedules and the mean over the batch are applied outside, once. Image-space terms, which any system can
name in its config, are called `term(target, recon, **options)`. A new loss is one file and one line here.
"""

from vae_jax.losses.classification import cross_entropy
from vae_jax.losses.feature import feature
from vae_jax.losses.focal_frequency import focal_frequency
from vae_jax.losses.kl import kl
from vae_jax.losses.lpips import lpips
from vae_jax.losses.pixel import bce, l1, l2
from vae_jax.losses.robust import robust
from vae_jax.losses.sharpness import sharpness
from vae_jax.losses.ssim import ms_ssim, ssim
from vae_jax.losses.watson import watson

IMAGE_TERMS = {
    "bce": bce,
    "l1": l1,
    "l2": l2,
    "lpips": lpips,
    "sharpness": sharpness,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "focal_frequency": focal_frequency,
    "robust": robust,
    "watson": watson,
}
TERMS = {"kl": kl, "feature": feature, "cross_entropy": cross_entropy, **IMAGE_TERMS}
