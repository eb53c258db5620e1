"""The VAE-GAN of Larsen, Sonderby, Larochelle, Winther (2016) on faces, 64x64, their networks, 128 latents.

    python -m vae_jax.main --config=configs/vaegan_celeba.py --workdir=runs/vaegan_celeba
    ... --config.data.name=image_folder --config.data.dir=DIR   any folder of images
    ... --config.terms.gan.fakes="('sample',)"                  the discriminator sees no reconstructions
    ... --config.terms.gan.fake_cost=mean                       of both kinds of fakes, as in version 0.1
    ... --config.terms.gan.saturating=False                     the decoder descends on -log Dis(fake)

As published: the discriminator's cost is the sum of those of real images, reconstructions and samples (algorithm 1;
their released code weighs them otherwise, fake_cost `released`); the decoder weighs similarity by 1e-6 against it (sums
over features, means over the batch; 1e-5 in the last version of their code); images are compared at the third
convolution of stride 2, before its BatchNorm; RMSprop, 3e-4, batches of 64; the discriminator or the decoder rests
while it is too strong (equilibrium 0.68, margin 0.35, of the mean cost of real images and that of fakes).
"""

from vae_jax.configs import common

SIMILARITY = 1e-6  # gamma in the paper: similarity against the discriminator, for the decoder


def get_config(arg: str = ""):
    """Variants: '', 'quick' (1,000 steps), 'smoke'."""
    config = common.get_config("vae_gan")
    config.name = "vaegan_celeba"
    config.image_size = 64
    config.latents = 128
    config.batch_size = 64
    config.steps = 63_600  # 25 epochs of 162,770 images
    config.log_every = 100
    config.eval_every = 6_360
    config.checkpoint_every = 2_540
    config.data.name = "celeb_a"
    config.encoder = {"name": "larsen", "scale": 1.0}
    config.decoder = {"name": "larsen", "scale": 1.0}
    config.discriminator = {"name": "larsen", "scale": 1.0}
    config.terms.kl = common.term(1.0)
    config.terms.similarity = common.term(1.0, layer="conv4", decoder_weight=SIMILARITY)
    config.terms.gan = common.term(
        1.0, decoder_weight=1 - SIMILARITY, fakes=("recon", "sample"), fake_cost="sum", saturating=True
    )
    for player in ("encoder", "decoder", "discriminator"):
        config.optimizers[player] = common.rmsprop(3e-4)
    if arg == "smoke":
        config.image_size = 32
        for network in (config.encoder, config.decoder, config.discriminator):
            network.update(scale=0.25)
    return common.shrink(config, arg, QUICK)


QUICK = {"steps": 1_000, "log_every": 50, "eval_every": 500, "checkpoint_every": 500}
