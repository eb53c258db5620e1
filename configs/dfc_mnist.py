"""The article's DFC-VAE: feature loss of an MNIST classifier + KL, 5 latents, RMSprop, 15 epochs.

    python -m vae_jax.main --config=configs/dfc_mnist.py --workdir=runs/dfc_mnist

The article's weights give a pixel MSE of 0.02443 and a mean Laplacian variance of 0.0682 (digits other than 1).

Loss weights depend on the scale of the perceptual network. The article weighs both taps by 1.0; at both taps, the
squared activations of its classifier on MNIST are 2.5 times those of the one that comes with vae_jax
(configs/classifier_mnist.py), so the equivalent weight is 2.5. To follow the article exactly, with its own classifier
(see pretrained_converters/convert.py):

    --config.backbone.weights=article.safetensors --config.terms.feature.weight=1.0

The learning rate has a warm-up and a decay, for the reasons given in configs/vae_mnist.py.
"""

from vae_jax.configs import common, vae_mnist


def get_config(arg: str = ""):
    """Variants: '' (60,000 digits), 'quick' (the 4,000 of mnist_5k), 'smoke'."""
    config = vae_mnist.get_config(arg)
    config.name = "dfc_mnist"
    config.backbone.name = "mnist_classifier"
    del config.terms.bce
    config.terms.feature = common.term(2.5, taps=("relu1", "relu2"), tap_weights=(1.0, 1.0), reduction="sum")
    return config
