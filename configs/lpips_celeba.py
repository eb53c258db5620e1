"""A VAE trained on LPIPS (Zhang et al. 2018, version 0.1, VGG16) + KL, with the networks of configs/vae_celeba.py.

    python -m vae_jax.main --config=configs/lpips_celeba.py --workdir=runs/lpips_celeba
    ... --config=configs/lpips_celeba.py:128                     128x128 pixels instead of 64x64
    ... --config.data.name=image_folder --config.data.dir=DIR    any folder of images

It is evaluated by LPIPS with AlexNet, which training does not use. LPIPS of two images is below 1, so KL in nats needs
a small weight: 5e-5 gives about as many nats as configs/dfc_celeba.py.
"""

from vae_jax.configs import common, vae_celeba


def get_config(arg: str = ""):
    """Variants, separated by commas: '128' (pixels; default 64); 'quick' (1,000 steps) or 'smoke'."""
    config = vae_celeba.get_config(arg)
    config.name = "lpips_celeba"
    del config.terms.l2
    config.terms.kl = common.term(5e-5)
    config.terms.lpips = common.term(1.0, net="vgg")
    return config
