"""Shared by the DeePSiM configs (Dosovitskiy and Brox 2016): length, losses, discriminator and optimisers.

As published: half a million steps of 64 images, Adam at 2e-4. The only published loss weights are those for inverting
conv5 (released files, as modified in KamitaniLab/End2EndDeepImageReconstruction): 2e-6 for pixels and 0.01 for
features, both half a sum of squared differences, of colours in 0..255 and of CaffeNet's pool5; 100 for the adversarial
term, a mean over the batch. The weights for the autoencoder, the VAE and any other comparator are unpublished. Chosen
here: the adversarial weight is proportional to the number of pixels, 100 at 227x227, like the sums that it balances; a
feature weight is such that two different training images are as far apart by features as by pixels (measured by
`vae_jax.scales` on 200 photographs; fc6 as conv5; caffenet and videonet as published).
"""

from ml_collections import ConfigDict

from vae_jax.configs import common

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
UNTRAINED = 11.5  # the same for pool5 of an untrained AlexNet at 64x64
QUICK = {"steps": 2_000, "log_every": 50, "eval_every": 1_000, "checkpoint_every": 500}


def get_config(name: str, system: str = "deepsim") -> ConfigDict:
    """A config of the published length, with a generator and no terms yet."""
    config = common.get_config(system)
    config.name = name
    config.batch_size = 64
    config.steps = 500_000
    config.log_every = 1_000
    config.eval_every = 50_000
    config.checkpoint_every = 10_000
    config.optimizers.generator = common.adam(2e-4, schedule="deepsim")
    return config


def imagenet(config: ConfigDict, image_size: int) -> None:
    """Train on random windows of ImageNet, in the proportion of 227 pixels to 256."""
    config.image_size = image_size
    config.data.name = "imagenet2012"
    config.data.eval = "validation"
    config.data.random_crop = round(image_size * 256 / 227)


def full_loss(config: ConfigDict, comparator: str, tap: str) -> None:
    """Add the three terms, the discriminator and the paper's balance rule to a config."""
    config.backbone.name = comparator
    config.terms.feature = common.term(FEATURE[comparator, tap], taps=(tap,))
    config.terms.l2 = common.term(IMAGE)
    config.terms.adversarial = common.term(ADVERSARIAL * (config.image_size / PUBLISHED_SIZE) ** 2)
    config.discriminator = {"name": "deepsim", "stride": 4 if config.image_size >= 128 else 2, "scale": 1.0}
    config.gate = {"stop": 0.1, "resume": 0.0, "rest": 0.0}  # as released: 0.1, 0.5, 10.0
    common.add_adversary(config)
    config.optimizers.discriminator = common.adam(2e-4, schedule="deepsim")
    config.optimizers.discriminator.weight_decay = 4e-4


def without(config: ConfigDict, *terms: str) -> None:
    """Remove terms, and with the adversarial term the discriminator."""
    for term in terms:
        del config.terms[term]
    if "adversarial" in terms:
        del config.discriminator, config.gate, config.adversary, config.optimizers["discriminator"]
    if "feature" in terms:
        config.backbone.name = ""
