"""The DFC-VAE of the article: feature loss of an MNIST classifier + KL on MNIST, 5 latents, RMSprop, 15 epochs.

    python -m vae_jax.main --config=configs/dfc_mnist.py --workdir=runs/dfc_mnist

The classifier is the one that comes with vae_jax (configs/classifier_mnist.py). The article's weights give a pixel MSE
of 0.02443 and a mean Laplacian variance of 0.0682 (digits other than 1).
"""

from configs import common, vae_mnist


def get_config(arg: str = ""):
    """Variants: '' (60,000 digits), 'quick' (the 4,000 of mnist_5k), 'smoke'."""
    config = vae_mnist.get_config(arg)
    config.name = "dfc_mnist"
    config.backbone.name = "mnist_classifier"
    del config.terms.bce
    config.terms.feature = common.term(1.0, taps=("relu1", "relu2"), tap_weights=(1.0, 1.0), reduction="sum")
    return config
