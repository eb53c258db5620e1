"""The baseline VAE of Hou, Shen, Sun, Qiu (WACV 2017) on faces: squared errors + KL, their networks, 100 latents.

    python -m vae_jax.main --config=configs/vae_celeba.py --workdir=runs/vae_celeba
    ... --config=configs/vae_celeba.py:128                       128x128 pixels instead of 64x64
    ... --config.data.name=image_folder --config.data.dir=DIR    any folder of images

As published: CelebA cropped to 138x138 at row 40, column 30; convolutions initialised from N(0, 0.02^2), BatchNorm
scales from N(1, 0.02^2); Adam, 5e-4, beta1 0.5; 5 epochs in batches of 64, the rate halved after each. The squared
errors are summed over the image, KL over the latents.
"""

from vae_jax.configs import common

CELEBA_STEPS = 12_715  # 5 epochs of 162,770 images in batches of 64


def get_config(arg: str = ""):
    """Variants, separated by commas: '128' (pixels; default 64); 'quick' (1,000 steps) or 'smoke'."""
    pixels, size = common.read_variants(arg, ("128",))
    config = common.get_config()
    config.name = "vae_celeba"
    config.image_size = 32 if size == "smoke" else int(pixels or 64)
    config.latents = 100
    config.batch_size = 64
    config.steps = CELEBA_STEPS
    config.log_every = 100
    config.eval_every = 2_540
    config.checkpoint_every = 1_270
    config.data.name = "celeb_a"
    config.encoder = {"name": "celeba", "slope": 0.2}
    config.decoder = {"name": "celeba", "slope": 0.2}
    config.terms.kl = common.term(1.0)
    config.terms.l2 = common.term(1.0, reduction="sum")
    config.optimizers.vae = common.adam(5e-4, schedule="halving", beta1=0.5)
    if size == "smoke":
        config.backbone.weights = "random"
    return common.shrink(config, size, QUICK)


QUICK = {"steps": 1_000, "log_every": 50, "eval_every": 500, "checkpoint_every": 500}
