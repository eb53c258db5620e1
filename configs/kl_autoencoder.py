"""The autoencoder of latent diffusion (Rombach et al. 2022): L1 + LPIPS + PatchGAN + a small KL; faces, 64x64 pixels.

    python -m vae_jax.main --config=configs/kl_autoencoder.py --workdir=runs/kl_autoencoder           8x8x4 latents
    ... --config=configs/kl_autoencoder.py:f4                   16x16x3 latents
    ... --config=configs/kl_autoencoder.py:celeba               the networks of configs/vae_celeba.py, 100 latents
    ... --config=configs/kl_autoencoder.py:256                  256x256 pixels, as published; also with f4 or celeba
    ... --config.learn_logvar=False                             s stays 0, as in the released code
    ... --config.data.name=image_folder --config.data.dir=DIR   any folder of images

As released (latent-diffusion, configs/autoencoder, kl-f8 and kl-f4): networks of width 128 with two blocks per level;
|x - xhat| of colours in [-1, 1], twice that in [0, 1], plus VGG16's LPIPS with weight 1, divided by exp(s), plus s; KL
1e-6; PatchGAN (64 channels, 3 layers) with the hinge loss from step 50,001, weighted by half the adaptive weight; Adam,
betas 0.5 and 0.9, for both players, at 4.5e-6 times the number of images in a step; 256x256 windows. In the released
code no optimiser updates the parameter s, so it stays 0; here it is learnt. Chosen here: CelebA at 64x64, batches of
32, 150,000 steps; the narrow networks of `quick`, width 32, normalise groups of four channels, 8 to 32 of them in a
layer, where the published ones have 32 groups. With a KL weight of 1e-6 there is no prior to sample from.
"""

from vae_jax.configs import common

RATE = 4.5e-6  # per image of a batch
NETWORKS = {
    "f8": (4, {"name": "latent_diffusion", "width": 128, "multipliers": (1, 2, 4, 4), "blocks": 2}),
    "f4": (3, {"name": "latent_diffusion", "width": 128, "multipliers": (1, 2, 4), "blocks": 2}),
    "celeba": (100, {"name": "celeba", "slope": 0.2}),
}
QUICK = {"steps": 1_000, "log_every": 50, "eval_every": 500, "checkpoint_every": 500}


def get_config(arg: str = ""):
    """Variants, separated by commas: 'f8' (default), 'f4' or 'celeba'; a number of pixels; 'quick' or 'smoke'."""
    networks, pixels, size = common.read_variants(arg, NETWORKS, common.PIXELS)
    config = common.get_config("kl_autoencoder")
    config.name = "_".join(filter(None, ("kl_autoencoder", networks, pixels)))
    config.image_size = 32 if size == "smoke" else int(pixels or 64)
    config.batch_size = 32
    config.steps = 150_000
    config.log_every = 100
    config.eval_every = 10_000
    config.checkpoint_every = 5_000
    config.data.name = "celeb_a"
    config.latents, network = NETWORKS[networks or "f8"]
    config.encoder, config.decoder = dict(network), dict(network)
    config.discriminator = {"name": "patchgan", "width": 64, "layers": 3}
    config.terms.l1 = common.term(2.0, reduction="mean")
    config.terms.lpips = common.term(1.0, net="vgg")
    config.terms.kl = common.term(1e-6)
    config.terms.adversarial = common.term(0.5, start=50_001)
    for player in ("autoencoder", "discriminator"):
        config.optimizers[player] = common.adam(RATE * config.batch_size, beta1=0.5)
        config.optimizers[player].beta2 = 0.9
    if size == "quick":
        _shrink_networks(config, width=32, blocks=1)
        config.terms.adversarial.start = 300
    elif size == "smoke":
        _shrink_networks(config, width=4, blocks=0, multipliers=(1, 1), layers=1)
        config.terms.adversarial.start = 2
        config.terms.lpips.net = "alex"
        config.backbone.weights = "random"
    return common.shrink(config, size, QUICK)


def _shrink_networks(config, **changes) -> None:
    for network in (config.encoder, config.decoder, config.discriminator):
        network.update({key: value for key, value in changes.items() if key in network})
