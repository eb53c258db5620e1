"""The DFC-VAE article's plain VAE: binary cross-entropy + KL on MNIST, 5 latents, RMSprop, 15 epochs of 60,000.

    python -m vae_jax.main --config=configs/vae_mnist.py --workdir=runs/vae_mnist

The article's weights give a binary cross-entropy of 113.15 nats, a pixel MSE of 0.02754 and a mean Laplacian variance
of 0.0352 (digits other than 1).

One thing differs from the article: the learning rate rises over the first 500 steps and falls to zero along a cosine.
RMSprop's running average starts at zero, so its first step moves every weight by 3.2 learning rates along the
gradient's sign; 12,544 weights at once push most of the encoder's 32 dense units below zero for good (5 of 32 are alive
in the article's weights). At a constant rate the final weights are as noisy as the first. To follow the article
exactly:

    --config.optimizers.vae.warmup_steps=0 --config.optimizers.vae.schedule=constant
"""

from vae_jax.configs import common


def get_config(arg: str = ""):
    """Variants: '' (60,000 digits), 'quick' (the 4,000 of mnist_5k), 'smoke'."""
    config = common.get_config()
    config.name = "vae_mnist"
    config.steps = 28_125  # 15 epochs of 60,000 digits in batches of 32
    config.checkpoint_every = 5_625  # 3 epochs
    config.eval_every = 5_625
    config.log_every = 625
    config.data.grey = True
    config.encoder = {"name": "mnist"}
    config.decoder = {"name": "mnist"}
    config.terms.kl = common.term(1.0)
    config.terms.bce = common.term(1.0, reduction="sum")
    config.optimizers.vae = common.rmsprop(1e-3, schedule="cosine", warmup_steps=500)
    return common.shrink(config, arg, QUICK)


QUICK = {
    "steps": 1_500,  # 12 epochs of 4,000 digits
    "log_every": 125,
    "eval_every": 750,
    "checkpoint_every": 750,
    "data": {"name": "mnist_5k"},
}
