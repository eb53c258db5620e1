"""The VAE that minimises the blur error (Bredell et al., ICLR 2023): faces, 64x64 pixels.

    python -m vae_jax.main --config=configs/blur_vae_celeba.py --workdir=runs/blur_vae
    ... --config=configs/blur_vae_celeba.py:fixed               one Gaussian kernel for all images, no kernel network
    ... --config.kernel_loss=elbo                               the kernel network descends on -ELBO as well
    ... --config.alternate=1                                    the players take turns, one step each
    ... --config.data.name=image_folder --config.data.dir=DIR   any folder of images
    ... and --config.data.grey=True                             greyscale images, such as slices of scans

Based on sections 1 and 2 of the paper and on summaries; there is no official code. From the paper: a likelihood whose
precision is the Wiener weight of a blur kernel that a small network predicts for each image, trained in turn with the
VAE; 64x64 images. C is 0.025 as in the first author's W-DIP code. Chosen here: the kernel network (11x11 pixels, two
layers of 1,000 units, a softmax) is trained to blur the target into the reconstruction; both players are updated in
every step, each with the other held fixed; epsilon, the floor of the weight, is 1, so that each frequency weighs
between 1 and 11 times what it does in plain squared errors; sigma is learnt, so that the loss is a true -ELBO, starting
from 0.2: on 300 training photographs 0.196 was the most likely value after 1,000 steps. Networks, crop and optimiser as
in configs/vae_celeba.py, Adam at 1e-4 for the kernel.
"""

from vae_jax.configs import common, vae_celeba


def get_config(arg: str = ""):
    """Variants, separated by commas: 'fixed'; '128' (pixels); 'quick' or 'smoke'."""
    fixed, pixels, size = common.read_variants(arg, ("fixed",), ("128",))
    return with_wiener(vae_celeba.get_config(f"{pixels},{size}"), "blur_vae_celeba", fixed)


def with_wiener(config, name: str, fixed: str):
    """The config of a VAE with the Wiener likelihood in place of its reconstruction terms."""
    config.name = "_".join(filter(None, (name, fixed)))
    config.system = "blur_vae"
    config.terms = {
        "kl": common.term(1.0),
        "wiener": common.term(1.0, C=0.025, epsilon=1.0, sigma=0.0, first_sigma=0.2),  # sigma 0: learnt
    }
    config.kernel_loss = "regression"
    config.alternate = 0
    if fixed:
        config.kernel = {"name": "gaussian", "size": 11, "sigma": 1.0}
    else:
        config.kernel = {"name": "dense", "size": 11, "hidden": 1000, "layers": 2}
        config.optimizers.kernel = common.adam(1e-4)
    return config
