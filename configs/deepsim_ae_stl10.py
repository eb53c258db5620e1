"""The autoencoder of DeePSiM (Dosovitskiy and Brox 2016, section 4.1): an 8-channel code at 1/8 of the image's size.

    python -m vae_jax.main --config=configs/deepsim_ae_stl10.py --workdir=runs/deepsim_ae    comparator: AlexNet conv3
    ... --config=configs/deepsim_ae_stl10.py:exemplar           Exemplar-CNN conv3 (train it by configs/exemplar_cnn.py)
    ... :random or :videonet or :caffenet                       conv5: AlexNet untrained, VideoNet, Caffe's AlexNet
    ... :se or :l1                                              squared or absolute pixel differences alone
    ... --config.data.name=image_folder --config.data.dir=DIR --config.data.train=train    any folder of images

As published: the networks of tables 1 and 2, random 64x64 windows of 96x96 images, batches of 64, Adam at 2e-4, weight
decay for the discriminator, the balance rule. Loss weights: configs/deepsim.py. Normalised Euclidean errors in the
paper (table 3): SE 15.3 %, l1 15.7 %, Exemplar-CNN 19.8 %, AlexNet 21.5 %.
"""

from vae_jax.configs import common, deepsim

COMPARATORS = {
    "alexnet": ("alexnet", "relu3"),
    "random": ("alexnet", "pool5"),  # untrained
    "exemplar": ("exemplar_cnn", "relu3"),
    "videonet": ("videonet", "pool5"),
    "caffenet": ("caffenet", "pool5"),
}
PIXELS = {"se": ("l2", deepsim.IMAGE), "l1": ("l1", 1.0)}


def get_config(arg: str = ""):
    """Variants, separated by commas: a comparator (alexnet), 'se' or 'l1'; 'quick' (2,000 steps) or 'smoke'."""
    loss, size = common.read_variants(arg, COMPARATORS | PIXELS)
    loss = loss or "alexnet"
    config = deepsim.get_config(f"deepsim_ae_stl10_{loss}")
    config.image_size = 64
    config.latents = 8
    config.data.name = "stl10"
    config.data.train = "unlabelled"
    config.data.random_crop = 96
    config.metrics = ("normalised_error",)
    config.encoder = {"name": "deepsim", "scale": 1.0}
    config.decoder = {"name": "deepsim", "scale": 1.0}
    if loss in PIXELS:
        term, weight = PIXELS[loss]
        config.terms[term] = common.term(weight)
    else:
        deepsim.full_loss(config, *COMPARATORS[loss])
    if loss == "random":
        config.backbone.weights = "random"
        config.terms.feature.weight = deepsim.UNTRAINED
    if size == "smoke":
        config.backbone.weights = "random"
    return common.shrink(config, size, deepsim.QUICK)
