"""The DFC-VAE article's perceptual model: a classifier of MNIST digits, RMSprop, 5 epochs of 60,000.

    python -m vae_jax.main --config=configs/classifier_mnist.py --workdir=runs/classifier_mnist
    python -m pretrained_converters.convert mnist_classifier --source=runs/classifier_mnist

Expected: at least 99.0 % accuracy on the test digits.
"""

from vae_jax.configs import common


def get_config(arg: str = ""):
    """Variants: '' (60,000 digits), 'quick' (the 4,000 of mnist_5k), 'smoke'."""
    config = common.get_config("classifier")
    config.name = "classifier_mnist"
    config.steps = 9_375  # 5 epochs of 60,000 digits in batches of 32
    config.eval_every = 1_875
    config.checkpoint_every = 1_875
    config.log_every = 625
    config.data.grey = True
    config.terms.cross_entropy = common.term(1.0)
    config.optimizers.classifier = common.rmsprop(1e-3)
    return common.shrink(config, arg, QUICK)


QUICK = {"steps": 625, "log_every": 125, "eval_every": 625, "checkpoint_every": 625, "data": {"name": "mnist_5k"}}
