"""Shared by configs/losses_celeba.py and configs/losses_mnist.py: one VAE with its reconstruction loss exchanged.

A loss that is -log p of the image (bce, gaussian, adaptive, wiener) has weight 1, and so does KL throughout. Squared
errors have weight 20: a Gaussian of standard deviation 0.16. Every other term is weighted to be as large as these
squared errors between 200 training images and their blur by two pixels (measured by `vae_jax.scales`); no loss was
tuned further. sharpness and focal_frequency are added to squared errors, as by their authors.
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
    config: ConfigDict, name: str, loss: str, weights: Mapping[str, float], backbone: str, taps: tuple, phase: float
) -> ConfigDict:
    """`config` with `loss` in place of its reconstruction terms: a likelihood, a name in `weights`, l2 or wiener.

    `backbone` and `taps` are for the feature loss, `phase` for Watson's.
    """
    for term in [term for term in config.terms if term != "kl"]:
        del config.terms[term]
    config.terms.kl = common.term(1.0)
    if loss == "wiener":
        return blur_vae_celeba.with_wiener(config, f"{name}_wiener", "")
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
        options = OPTIONS.get(loss, {}) | ({"phase": phase} if loss == "watson" else {})
        config.terms[loss] = common.term(weights[loss], **options)
    return config
