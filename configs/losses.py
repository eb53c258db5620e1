"""What configs/losses_celeba.py and configs/losses_mnist.py share: one VAE, and a loss in the place of its own.

A loss that is -log p of the image (bce, gaussian, adaptive, wiener) has weight 1, and so has KL in all of them. Squared
errors have weight 20: a Gaussian of standard deviation 0.16. Every other term has the weight with which it is as large
as that between 200 training images and their blur by two pixels, which `vae_jax.scales` measures: the one budget of
tuning that all of them had. sharpness and focal_frequency stand beside squared errors, as their authors have them.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from vae_jax.configs import blur_vae_celeba, common

L2 = 20.0
LIKELIHOODS = {
    "bce": {"reduction": "sum"},
    "gaussian": {"sigma": 0.1},
    "adaptive": {"representation": "wavelet", "scale": 0.1},
}
BESIDE_L2 = ("sharpness", "focal_frequency")
OPTIONS = {
    "robust": {"alpha": 1.0, "c": 0.1},
    "sharpness": {"variation": "maximum", "reduction": "sum"},
    "watson": {"transform": "dft"},
    "lpips": {"net": "vgg"},
}


def with_loss(
    config: ConfigDict, name: str, loss: str, weights: Mapping[str, float], backbone: str, taps: tuple
) -> ConfigDict:
    """`config` with `loss`, one of the likelihoods, of `weights` or wiener, where its reconstruction terms were.

    `backbone` and `taps` are for the features.
    """
    for term in [term for term in config.terms if term != "kl"]:
        del config.terms[term]
    config.terms.kl = common.term(1.0)
    if loss == "wiener":
        return blur_vae_celeba.blur(config, f"{name}_wiener", "")
    config.name = f"{name}_{loss}"
    if loss in LIKELIHOODS:
        config.terms[loss] = common.term(1.0, **LIKELIHOODS[loss])
        return config
    if loss == "l2" or loss in BESIDE_L2:
        config.terms.l2 = common.term(L2, reduction="sum")
    if loss == "feature":
        config.backbone.name = backbone
        config.terms.feature = common.term(weights[loss], taps=taps, reduction="sum")
    elif loss != "l2":
        config.terms[loss] = common.term(weights[loss], **OPTIONS.get(loss, {}))
    return config
