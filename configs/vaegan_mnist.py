"""The VAE-GAN of *Introducing sharpness measure in VAE and VAE-GAN* on MNIST at 32x32, 5,000 of each digit.

    python -m vae_jax.main --config=configs/vaegan_mnist.py --workdir=runs/vaegan
    ... --config=configs/vaegan_mnist.py:letter                  the document's rules exactly

The document's rules: the encoder descends on L_prior + L_rec, the decoder on L_rec - L_GAN, the discriminator on L_GAN.
Networks (a quarter as wide), compared layer, inputs of the discriminator and balance of the players are those of Larsen
et al. (2016), whose method it is. Data, latents, optimiser and length are those of configs/sharp_vae_mnist.py, for
comparison. The cost of fakes is the mean of reconstructions and samples, with which the results were measured, not
Larsen et al.'s sum.

Two things differ from the document, whose exact rules let the discriminator win and then rest for the whole run. The
decoder weighs L_rec by W against the discriminator, as Larsen et al. do. And it descends on -log Dis(fake) instead of
log(1 - Dis(fake)), whose gradient is tiny while the discriminator is right.
"""

from vae_jax.configs import common, sharp_vae_mnist

W = 0.01  # the decoder's weight of L_rec, against the discriminator


def get_config(arg: str = ""):
    """Variants, separated by commas: 'letter'; 'quick' (the 4,000 of mnist_5k) or 'smoke'."""
    letter, size = common.read_variants(arg, ("letter",))
    config = sharp_vae_mnist.get_config(f"naive,{size}")
    config.name = "vaegan_mnist"
    config.system = "vae_gan"
    config.discriminator = {"name": "larsen", "scale": 0.25}
    del config.terms.bce
    config.terms.similarity = common.term(1.0, layer="conv4", decoder_weight=W)
    config.terms.gan = common.term(
        1.0, decoder_weight=1 - W, fakes=("recon", "sample"), fake_cost="mean", saturating=False
    )
    config.gate = {"equilibrium": 0.68, "margin": 0.35}
    common.add_adversary(config)
    optimizer = config.optimizers.vae
    del config.optimizers.vae
    for player in ("encoder", "decoder", "discriminator"):
        config.optimizers[player] = optimizer.copy_and_resolve_references()
    if letter:
        config.name = "vaegan_mnist_letter"
        config.terms.similarity.decoder_weight = 1.0
        config.terms.gan.update(decoder_weight=1.0, saturating=True)
    return config
