"""The VAE that minimises the blur error (Bredell et al., ICLR 2023): faces, 64x64 pixels.

    python -m vae_jax.main --config=configs/blur_vae_celeba.py --workdir=runs/blur_vae
    ... --config=configs/blur_vae_celeba.py:fixed               one Gaussian kernel for all images, no kernel network
    ... --config.kernel_loss=elbo                               the kernel network descends on -ELBO as well
    ... --config.alternate=1                                    the players take turns, a step each
    ... --config.data.name=image_folder --config.data.dir=DIR --config.data.crop=square    any folder of images
    ... and --config.data.grey=True                             slices of scans, in one channel

The paper is known to us up to its section 2 and by summaries; there is no official code. Found there: a likelihood
whose precision is the Wiener weight of a blur kernel that a small network makes for each image, trained in turn with
the VAE; images of 64x64. C is 0.025 as in the first author's W-DIP code. Chosen here: the kernel network (11x11 pixels,
two layers of 1,000 units, a softmax) is trained to blur the target into the reconstruction; both players move in every
step, each with the other held; epsilon, the floor of the weight, is 1, so that no frequency weighs less than plain
squared errors would, nor more than eleven times as much; sigma is learnt, so that the ELBO is one, from 0.2 on: on 300
training photographs 0.196 was the most likely one after 1,000 steps. Networks, crop and optimiser as in
configs/vae_celeba.py, Adam at 1e-4 for the kernel.
"""

from vae_jax.configs import common, vae_celeba


def get_config(arg: str = ""):
    """Variants, separated by commas: 'fixed'; '128' (pixels); 'quick' or 'smoke'."""
    fixed, pixels, size = common.read_variants(arg, ("fixed",), ("128",))
    return blur(vae_celeba.get_config(f"{pixels},{size}"), "blur_vae_celeba", fixed)


def blur(config, name: str, fixed: str):
    """The config of a VAE with its reconstruction terms changed for the Wiener likelihood."""
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
