"""The VAE-GAN: images are compared by the features of a discriminator, which is trained at the same time.

Three players, each with its own rule, share one forward pass (Larsen et al. 2016, algorithm 1). w and 1 - w are the
`decoder_weight` of the terms, by default a term's weight:

    encoder        kl + similarity + image terms
    decoder        w (similarity + image terms) - (1 - w) gan
    discriminator  gan

`similarity` is 1/2 sum (Dis_l(x) - Dis_l(xhat))^2 at the layer `terms.similarity.layer`; `gan` is -log Dis(x) and, for
each kind of fake that the discriminator sees (`terms.gan.fakes`: recon, sample), -log(1 - Dis(fake)), weighed as
`terms.gan.fake_cost` says:

    sum       the sum of all, algorithm 1
    mean      the mean of the kinds of fakes: real and fake images count alike; the default
    released  0.66 times real images' cost plus 0.34 times that mean, but the decoder's gradient is divided by the
              weight of a fake, 0.17: their last released run on CelebA (andersbll/autoencoding_beyond_pixels,
              model/aegan.py, real_vs_gen_weight; its first run had 0.5 and no reconstructions, which is `sum`)

This is the saturating form; if `terms.gan.saturating` is False, the decoder instead descends on +(1 - w) `generator`,
-log Dis(fake) of each kind, weighed like the fakes (Goodfellow et al. 2014, section 3). Image terms, such as sharpness,
compare pixels and train encoder and decoder. `config.adversary` has more for the discriminator, see
`vae_jax.systems.adversary`; `similarity` compares what the discriminator sees, augmented alike.

Reconstructions and samples pass through the decoder as one batch, and with the real images through the discriminator as
one batch: BatchNorm normalises them alike, as the running statistics do in evaluation. The discriminator's gradients
with respect to images are computed once for all players: see `pulled_back_once`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import kl
from vae_jax.losses.adversarial import fake_cost, real_cost
from vae_jax.losses.pixel import l2
from vae_jax.models import DECODERS, DISCRIMINATORS, ENCODERS
from vae_jax.runtime.batches import join_batches, part_batches
from vae_jax.systems.adversary import Adversary, make_adversary
from vae_jax.systems.contract import System, Weight, always_open, term_weight, weight_schedule
from vae_jax.systems.image_terms import loss_options, make_image_terms
from vae_jax.systems.networks import Codec, apply_network, draw, init_networks, make_network

OWN = ("kl", "similarity", "gan")
FAKES = ("recon", "sample")
RULE_KEYS = ("decoder_weight",)
REAL_SHARE = 0.66  # of the real images in the released run


class Gan(NamedTuple):
    """The options of the term gan.

    real, fake: the weights of the cost of real images and of the mean cost of all fakes, for the discriminator.
    decoder: what the decoder's weight is multiplied by.
    """

    fakes: tuple[str, ...]
    saturating: bool
    real: float
    fake: float
    decoder: float


def vae_gan(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """The terms are kl, similarity, gan and any image terms. UserError if one of the first three is missing."""
    if missing := [name for name in OWN if name not in config.terms]:
        raise UserError(f"A vae_gan needs the term {missing[0]}: its terms are {', '.join(OWN)} and any image terms.")
    image_terms = make_image_terms(config, OWN, RULE_KEYS)
    similarity, gan = (loss_options(config.terms[name], RULE_KEYS) for name in ("similarity", "gan"))
    layer = call_with_options(_similarity_options, "The term similarity", **similarity)
    gan = call_with_options(_gan_options, "The term gan", **gan)
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    decoder = make_network(DECODERS, "decoder", config, image_shape)
    discriminator = make_network(DISCRIMINATORS, "discriminator", config)
    codec, adversary = Codec(encoder, decoder), make_adversary(config)
    kinds = 3 if "sample" in gan.fakes else 2

    def init(key, batch):
        images = batch["image"]
        z = jnp.zeros((images.shape[0], config.latents))
        networks = {"encoder": (encoder, images), "decoder": (decoder, z), "discriminator": (discriminator, images)}
        params, stats = init_networks(key, **networks)
        return params, stats | adversary.init_stats()

    def compare(layers, kinds):
        """[B]: half the squared differences between the features of images and of their reconstructions, the first two
        of so many kinds."""
        real, recon = part_batches(look_up(layers, layer, "terms.similarity.layer"), kinds)[:2]
        return l2(real, recon) / 2

    def judge(params, seen, stats):
        """The terms of joined images: real, recon and perhaps sample; the discriminator's two costs separately."""
        layers, stats = apply_network(discriminator, "discriminator", params, stats, seen, train=True)
        real, *fakes = part_batches(layers["logits"], kinds)
        fake = join_batches(*fakes[0 if "recon" in gan.fakes else 1 :])
        costs = {"gan_real": jnp.mean(real_cost(real)), "gan_fake": jnp.mean(fake_cost(fake))}
        weighed = gan.real * costs["gan_real"] + gan.fake * costs["gan_fake"]
        values = {"similarity": jnp.mean(compare(layers, kinds)), "gan": weighed}
        if not gan.saturating:
            values["generator"] = gan.fake * jnp.mean(real_cost(fake))
        compared, stats = adversary.compare(real, fake, stats)
        return values | compared, (costs, stats)

    def logits(params, stats, images):
        seen = apply_network(discriminator, "discriminator", params["discriminator"], stats, images, train=True)
        return seen[0]["logits"]

    def terms(params, stats, frozen, batch, key, step):
        images = batch["image"]
        posterior_key, prior_key = jax.random.split(key)
        mean, logvar, stats = codec.posterior(params, stats, images, train=True)
        z = draw(posterior_key, mean, logvar)
        if "sample" in gan.fakes:
            z = join_batches(z, jax.random.normal(prior_key, z.shape))
        decoded, stats = codec.reconstruct(params, stats, z)
        decoded = part_batches(decoded, kinds - 1)
        view_key, noise_key = jax.random.split(jax.random.fold_in(key, 1))
        seen = join_batches(*(adversary.view(view_key, one) for one in (images, *decoded)))
        penalties = adversary.smoothness(
            lambda x: logits(params, stats, adversary.view(view_key, x)), images, noise_key
        )
        judged, (costs, stats) = pulled_back_once(judge, ("gan", "lecam"))(params["discriminator"], seen, stats)
        values = image_terms.values(frozen, batch, decoded[0]) | {"kl": kl(mean, logvar)}
        return {name: jnp.mean(value) for name, value in values.items()} | judged | penalties | costs, stats

    def evaluate(params, stats, frozen, batch):
        images = batch["image"]
        mean, logvar = codec.encode(params, stats, frozen, images)
        recon = codec.decode(params, stats, mean)
        seen = join_batches(images, recon)
        layers, _ = apply_network(discriminator, "discriminator", params["discriminator"], stats, seen, train=False)
        values = {"kl": kl(mean, logvar), "similarity": compare(layers, 2)}
        return recon, values | image_terms.feature(frozen, batch, recon)

    return System(
        rules=_rules(config, image_terms.names, gan, adversary),
        frozen=image_terms.frozen,
        init=init,
        terms=terms,
        evaluate=evaluate,
        encode=codec.encode,
        decode=codec.decode,
        latent_shape=(config.latents,),
        prior=True,
        gate=call_with_options(balance, "The gate", **config.gate),
        targets=image_terms.targets,
    )


def pulled_back_once(judge: Callable, own: Sequence[str]) -> Callable:
    """`judge` (params, images, stats) -> ({term: scalar}, aux), with gradients that are computed once for all players:
    each player's gradient is a weighted sum of the terms' gradients.

    All terms have gradients with respect to the images, only those in `own` with respect to `params`; `aux` has none.
    """

    def forward(params, images, stats):
        terms, pull_back, aux = jax.vjp(lambda *moved: judge(*moved, stats), params, images, has_aux=True)
        unit = {name: {other: jnp.full_like(terms[other], other == name) for other in terms} for name in terms}
        gradients = {name: pull_back(unit[name]) for name in terms}
        of_params = {name: gradients[name][0] for name in own if name in gradients}
        of_images = {name: gradient[1] for name, gradient in gradients.items()}
        return (terms, aux), (of_params, of_images)

    def backward(gradients, cotangents):
        (of_params, of_images), (weights, _) = gradients, cotangents
        to_images = sum(weights[name] * gradient for name, gradient in of_images.items())
        to_params = [jax.tree.map(lambda leaf, n=name: weights[n] * leaf, tree) for name, tree in of_params.items()]
        return jax.tree.map(lambda *leaves: sum(leaves), *to_params), to_images, None

    once = jax.custom_vjp(judge)
    once.defvjp(forward, backward)
    return once


def _rules(
    config: ConfigDict, image_terms: Sequence[str], gan: Gan, adversary: Adversary
) -> dict[str, dict[str, Weight]]:
    def decoder_weight(name: str, factor: float = 1.0, delay: int = 0) -> Weight:
        term = config.terms[name]
        return weight_schedule(factor * term.get("decoder_weight", term.weight), term.start + delay, term.warmup)

    compared = ("similarity", *image_terms)
    name, sign = ("gan", -1) if gan.saturating else ("generator", 1)
    against = {name: decoder_weight("gan", sign * gan.decoder, adversary.head_start)}
    own = adversary.rule(config.terms.gan.start, config.terms.gan.warmup)
    return {
        "encoder": {name: term_weight(config.terms[name]) for name in ("kl", *compared)},
        "decoder": {name: decoder_weight(name) for name in compared} | against,
        "discriminator": {"gan": term_weight(config.terms.gan)} | own,
    }


def balance(equilibrium: float, margin: float):
    """The gate of Larsen et al.'s released code, which keeps decoder and discriminator equally strong.

    The discriminator rests while one of its two costs (nats per image, means over real and over fake images) is below
    equilibrium - margin, the decoder while one is above equilibrium + margin; if both would rest, both are updated. The
    encoder always is. Margin 0: no gate.
    """
    low, high = equilibrium - margin, equilibrium + margin

    def gate(scalars, state):
        costs = jnp.stack([scalars["gan_real"], scalars["gan_fake"]])
        discriminator, decoder = jnp.all(costs >= low), jnp.all(costs <= high)
        neither = ~(discriminator | decoder)
        return {"discriminator": discriminator | neither, "decoder": decoder | neither}, state

    return gate if margin else always_open


def _similarity_options(layer: str) -> str:
    return layer


def _gan_options(fakes: Sequence[str] = FAKES, saturating: bool = True, fake_cost: str = "mean") -> Gan:
    unknown = [kind for kind in fakes if kind not in FAKES]
    if unknown or not fakes:
        raise UserError(f"terms.gan.fakes is {tuple(fakes)}; expected one or both of {', '.join(FAKES)}.")
    kinds = len(fakes)
    weights = {  # real, fake, decoder
        "mean": (1.0, 1.0, 1.0),
        "sum": (1.0, float(kinds), 1.0),
        "released": (REAL_SHARE, 1 - REAL_SHARE, kinds / (1 - REAL_SHARE)),
    }
    return Gan(tuple(fakes), saturating, *look_up(weights, fake_cost, "terms.gan.fake_cost"))
