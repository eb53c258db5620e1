"""Loss terms: pure functions of equal-shape arrays that return one unweighted value per example, [B].

Weights, schedules and the mean over the batch are applied outside, once. The config of any system that generates images
can name two kinds: `IMAGE_TERMS[name](target, recon, **options)`, and losses with frozen weights,
`PERCEPTUAL_TERMS[name](config, **options)`, each a `perceptual.PerceptualTerm`. A new loss is one file and one line
here; one with a weights file also has a line in `keys.TERM_WEIGHTS`.
"""

from vae_jax.losses.classification import cross_entropy
from vae_jax.losses.feature import feature, feature_term
from vae_jax.losses.focal_frequency import focal_frequency
from vae_jax.losses.kl import kl
from vae_jax.losses.lpips import lpips, lpips_term
from vae_jax.losses.pixel import bce, l1, l2
from vae_jax.losses.robust import robust
from vae_jax.losses.sharpness import sharpness
from vae_jax.losses.ssim import ms_ssim, ssim
from vae_jax.losses.watson import watson, watson_term

IMAGE_TERMS = {
    "bce": bce,
    "l1": l1,
    "l2": l2,
    "sharpness": sharpness,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "focal_frequency": focal_frequency,
    "robust": robust,
}
PERCEPTUAL_TERMS = {"feature": feature_term, "lpips": lpips_term, "watson": watson_term}
TERMS = {"kl": kl, "feature": feature, "cross_entropy": cross_entropy, "lpips": lpips, "watson": watson, **IMAGE_TERMS}
