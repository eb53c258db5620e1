"""Inversion of AlexNet (Dosovitskiy and Brox 2016, section 4.3): an image from the features of one layer.

    python -m vae_jax.main --config=configs/deepsim_invert_alexnet.py:fc6 --workdir=runs/invert_fc6
    ... --config=configs/deepsim_invert_alexnet.py:conv5        or fc7, fc8; conv5 is pooled, fc6 and fc7 are rectified
    ... :conv5,se                                               squared errors alone (Dosovitskiy and Brox 2015)
    ... :fc6,no_feature or no_adversarial or no_image           without one of the three terms (figure 7)
    ... :fc6,random_dense                                       untrained dense layers; the run's name says so
    ... :conv5,96                                               96x96 windows of 108x108 images
    ... --config.data.name=image_folder --config.data.dir=DIR --config.data.random_crop=0      any folder, whole images

As published: the generator of table 5, for conv5 with convolutions in place of its dense layers; the comparator is
conv5; the discriminator also sees the features; 227x227 windows of 256x256 images, batches of 64, Adam at 2e-4. Loss
weights: configs/deepsim.py. Normalised errors in the paper, image / features (table 8): conv5 43 / 37 %, fc6 55 / 48 %,
fc7 61 / 45 %, fc8 63 / 29 %; fc6 by squared errors alone 46 / 79 %.
"""

from vae_jax.configs import common, deepsim

LAYERS = {"conv5": "pool5", "fc6": "fc6", "fc7": "fc7", "fc8": "fc8"}
LOSSES = {"se": ("feature", "adversarial"), "no_feature": ("feature",), "no_adversarial": ("adversarial",),
          "no_image": ("l2",)}  # fmt: skip


def get_config(arg: str = ""):
    """Variants, separated by commas: layer (fc6); 'se' or 'no_TERM'; 'random_dense'; pixels; 'quick' or 'smoke'."""
    layer, loss, dense, pixels, size = common.read_variants(arg, LAYERS, LOSSES, ("random_dense",), common.PIXELS)
    layer = layer or "fc6"
    named = [part for part in (layer, loss, dense, pixels) if part]
    config = deepsim.get_config("_".join(["deepsim_invert_alexnet", *named]), system="inversion")
    deepsim.imagenet(config, 64 if size == "smoke" else int(pixels or 227))
    config.metrics = ("normalised_error",)
    config.inverted.update(tap=LAYERS[layer], weights=dense)
    config.decoder = {"name": "deepsim_conv_generator" if layer == "conv5" else "deepsim_generator", "scale": 1.0}
    deepsim.full_loss(config, "alexnet", "pool5")
    if loss:
        deepsim.without(config, *LOSSES[loss])
    if size == "smoke":
        config.backbone.weights = config.inverted.weights = "random"
        config.decoder.update(scale=1 / 16)
    return common.shrink(config, size, deepsim.QUICK)
