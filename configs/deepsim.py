"""What the configs of DeePSiM (Dosovitskiy and Brox 2016) share: the loss, the discriminator, the optimisers.

Published, of the inversion of conv5 (released files, as modified in KamitaniLab/End2EndDeepImageReconstruction): 2e-6
for pixels and 0.01 for features, both half a sum of squared differences, of colours in 0..255 and of CaffeNet's pool5;
100 for the adversarial term, a mean over the batch of 64. Not published: the weights of autoencoder and VAE, and of any
other comparator. Chosen here: the adversarial weight is proportional to the number of pixels, 100 at 227x227, as the
sums that it stands against are; a feature weight is such that two different training images are as far apart by
features as by pixels, measured on 200 photographs (fc6 like conv5; caffenet and videonet as published).
"""

from configs import common

IMAGE = 2e-6 / 2 * 255**2  # on squared differences of [0, 1]
ADVERSARIAL, PUBLISHED_SIZE = 100.0, 227
FEATURE = {  # on squared differences, by comparator and tap
    ("alexnet", "relu3"): 0.0042,
    ("alexnet", "pool5"): 0.054,
    ("alexnet", "fc6"): 0.054,
    ("exemplar_cnn", "relu3"): 0.0105,
    ("caffenet", "pool5"): 0.01 / 2,
    ("videonet", "pool5"): 0.01 / 2,
}
UNTRAINED = 11.5  # the same for AlexNet's pool5 at 64x64 where nobody trained it


def full_loss(config, comparator: str, tap: str) -> None:
    """Gives a config the three terms, both players and their balance rule, in the paper's form."""
    config.backbone.name = comparator
    config.terms.feature = common.term(FEATURE[comparator, tap], taps=(tap,))
    config.terms.l2 = common.term(IMAGE)
    config.terms.adversarial = common.term(ADVERSARIAL * (config.image_size / PUBLISHED_SIZE) ** 2)
    config.discriminator = {"name": "deepsim", "stride": 4 if config.image_size >= 128 else 2, "scale": 1.0}
    config.gate = {"stop": 0.1, "resume": 0.0, "rest": 0.0}  # as released: 0.1, 0.5, 10.0
    config.optimizers.generator = common.adam(2e-4, schedule="deepsim")
    config.optimizers.discriminator = common.adam(2e-4, schedule="deepsim")
    config.optimizers.discriminator.weight_decay = 4e-4


def without(config, *terms: str) -> None:
    """Takes terms out, and with the adversarial one its player."""
    for term in terms:
        del config.terms[term]
    if "adversarial" in terms:
        del config.discriminator, config.gate, config.optimizers["discriminator"]
    if "feature" in terms:
        config.backbone.name = ""
