"""The VAE that minimises the blur error (configs/blur_vae_celeba.py) on MNIST, with the DFC-VAE article's networks.

    python -m vae_jax.main --config=configs/blur_vae_mnist.py --workdir=runs/blur_vae_mnist
    ... --config=configs/blur_vae_mnist.py:fixed                one Gaussian kernel for all images, no kernel network

Networks, optimiser and length as in configs/vae_mnist.py, for comparison.
"""

from vae_jax.configs import blur_vae_celeba, common, vae_mnist


def get_config(arg: str = ""):
    """Variants, separated by commas: 'fixed'; 'quick' (the 4,000 of mnist_5k) or 'smoke'."""
    fixed, size = common.read_variants(arg, ("fixed",))
    return blur_vae_celeba.with_wiener(vae_mnist.get_config(size), "blur_vae_mnist", fixed)
