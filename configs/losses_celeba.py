"""The VAE of configs/vae_celeba.py with any of sixteen losses, all else equal: a fair comparison.

    losses=configs/losses_celeba.py
    python -m vae_jax.compare --configs=$losses:l2,quick,$losses:ssim,quick,$losses:wiener,quick --workdir=runs/losses
    python -m vae_jax.main --config=configs/losses_celeba.py:ssim --workdir=runs/ssim          one of them
    ... --config.data.name=image_folder --config.data.dir=DIR   any folder of images

Squared errors (l2), gaussian (with a learnt variance), l1, bce, ssim, ms_ssim, focal_frequency, watson, robust
(Barron's general loss), adaptive (his adaptive likelihood), feature (VGG16, relu1_1 to relu3_1 as VAE-123), lpips
(VGG16), sharpness, wiener (the blur-error VAE). Watson's distance compares Fourier coefficients, with its initial
weights rather than those that its authors learnt. With these, phases outweigh amplitudes 68 to 1 between photographs
and their blur; here they count as much (terms.watson.phase). For cosine coefficients the weight by the same rule is
1,850. Networks and optimiser as in configs/vae_celeba.py, with a cosine schedule; weights by the rule of
configs/losses.py, measured on photographs. The decoder has no output activation but for bce: cross-entropy is infinite
outside [0, 1], and clipped there it has no gradient, so that pixels on the wrong side never come back.

Two losses have a discriminator and weights of their own, but the same encoder and decoder. vae_gan has the optimisers
and balance of configs/vaegan_celeba.py, the mean cost of fakes and not their sum, and a decoder that weighs similarity
by 1e-5, as in the last version of the authors' code: at 1e-6 it hears nothing of the image. kl_autoencoder has this
file's optimiser for both players, KL at weight 1 like the others, and a discriminator that enters after 3/10 of the
steps and has spectral normalisation: with BatchNorm it wins. quick halves the width of both discriminators.
"""

from vae_jax.configs import common, kl_autoencoder, losses, vae_celeba, vaegan_celeba

WEIGHTS = {
    "l1": 2.0,
    "robust": 0.58,
    "ssim": 3_200.0,
    "ms_ssim": 7_200.0,
    "focal_frequency": 5.6e5,
    "watson": 87.0,
    "feature": 0.0012,
    "lpips": 2_600.0,
    "sharpness": 13.0,
}
PHASE = 0.015  # of Watson's phases: as much as amplitudes, between photographs and their blur
SIMILARITY = 1e-5  # of the VAE-GAN's decoder
TAPS = ("relu1_1", "relu2_1", "relu3_1")
LOSSES = ("l2", *losses.LIKELIHOODS, *WEIGHTS, "wiener", "vae_gan", "kl_autoencoder")


def get_config(arg: str = ""):
    """Variants, separated by commas: a loss (l2); '128' (pixels); 'quick' or 'smoke'."""
    loss, pixels, size = common.read_variants(arg, LOSSES, ("128",))
    config = vae_celeba.get_config(f"{pixels},{size}")
    config.optimizers.vae.schedule = "constant" if size == "smoke" else "cosine"
    if loss == "vae_gan":
        gan = _on_networks_of(config, vaegan_celeba.get_config(size), loss)
        gan.terms.gan.fake_cost = "mean"
        gan.discriminator.scale /= 2 if size == "quick" else 1
        gan.terms.similarity.decoder_weight, gan.terms.gan.decoder_weight = SIMILARITY, 1 - SIMILARITY
        return gan
    if loss == "kl_autoencoder":
        gan = _on_networks_of(config, kl_autoencoder.get_config(f"celeba,{size}"), loss)
        gan.terms.kl.weight = 1.0
        gan.terms.adversarial.start = 3 * config.steps // 10
        gan.discriminator.spectral_norm = True
        gan.optimizers = {player: config.optimizers.vae.to_dict() for player in gan.optimizers}
        return gan
    if loss == "bce":
        config.decoder.sigmoid = True
    return losses.with_loss(config, "losses_celeba", loss or "l2", WEIGHTS, "vgg16", TAPS, PHASE)


def _on_networks_of(config, gan, name: str):
    gan.name, gan.latents = f"losses_celeba_{name}", config.latents
    gan.encoder, gan.decoder = config.encoder, config.decoder
    for key in ("image_size", "batch_size", "steps", "log_every", "eval_every", "checkpoint_every"):
        gan[key] = config[key]
    return gan
