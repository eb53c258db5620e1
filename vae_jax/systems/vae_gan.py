"""The VAE-GAN: images are compared by the features of a discriminator, which is trained at the same time.

Three players, each with its own rule, share one forward pass (Larsen et al. 2016, algorithm 1). w and 1 - w are the
`decoder_weight` of the terms, by default a term's weight:

    encoder        kl + similarity + image terms
    decoder        w (similarity + image terms) - (1 - w) gan
    discriminator  gan

`similarity` is 1/2 sum (Dis_l(x) - Dis_l(xhat))^2 at the layer `terms.similarity.layer`; `gan` is -log Dis(x) - log(1 -
Dis(fake)), averaged over the kinds of fakes that the discriminator sees (`terms.gan.fakes`: recon, sample). This is the
saturating form; if `terms.gan.saturating` is False, the decoder instead descends on +(1 - w) `generator`, -log
Dis(fake) (Goodfellow et al. 2014, section 3). Image terms, such as sharpness, compare pixels and train encoder and
decoder.

Reconstructions and samples pass through the decoder as one batch, and with the real images through the discriminator as
one batch: BatchNorm normalises them alike, as the running statistics do in evaluation. The discriminator's gradients
with respect to images are computed once for all players: see `pulled_back_once`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import kl
from vae_jax.losses.adversarial import fake_cost, real_cost
from vae_jax.losses.pixel import l2
from vae_jax.models import DECODERS, DISCRIMINATORS, ENCODERS
from vae_jax.systems.contract import System, Weight, always_open, term_weight, weight_schedule
from vae_jax.systems.image_terms import loss_options, make_image_terms
from vae_jax.systems.networks import Codec, apply_network, draw, init_networks, make_network

OWN = ("kl", "similarity", "gan")
FAKES = ("recon", "sample")
RULE_KEYS = ("decoder_weight",)


def vae_gan(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """The terms are kl, similarity, gan and any image terms. UserError if one of the first three is missing."""
    if missing := [name for name in OWN if name not in config.terms]:
        raise UserError(f"A vae_gan needs the term {missing[0]}: its terms are {', '.join(OWN)} and any image terms.")
    image_terms = make_image_terms(config, OWN, RULE_KEYS)
    similarity, gan = (loss_options(config.terms[name], RULE_KEYS) for name in ("similarity", "gan"))
    layer = call_with_options(_similarity_options, "The term similarity", **similarity)
    fakes, saturating = call_with_options(_gan_options, "The term gan", **gan)
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    decoder = make_network(DECODERS, "decoder", config, image_shape)
    discriminator = make_network(DISCRIMINATORS, "discriminator", config)
    codec = Codec(encoder, decoder)

    def init(key, batch):
        images = batch["image"]
        z = jnp.zeros((images.shape[0], config.latents))
        return init_networks(
            key, encoder=(encoder, images), decoder=(decoder, z), discriminator=(discriminator, images)
        )

    def compare(layers, n):
        """[n]: half the squared differences between the features of n real images and of their n reconstructions."""
        features = look_up(layers, layer, "terms.similarity.layer")
        return l2(features[:n], features[n : 2 * n]) / 2

    def judge(params, seen, stats):
        """The terms of images [2n or 3n, H, W, C]: real, recon, sample; the discriminator's two costs separately."""
        n = len(seen) // (3 if "sample" in fakes else 2)
        layers, stats = apply_network(discriminator, "discriminator", params, stats, seen, train=True)
        real, fake = layers["logits"][:n], layers["logits"][n if "recon" in fakes else 2 * n :]
        costs = {"gan_real": jnp.mean(real_cost(real)), "gan_fake": jnp.mean(fake_cost(fake))}
        values = {"similarity": jnp.mean(compare(layers, n)), "gan": costs["gan_real"] + costs["gan_fake"]}
        if not saturating:
            values["generator"] = jnp.mean(real_cost(fake))
        return values, (costs, stats)

    def terms(params, stats, frozen, batch, key, step):
        images, n = batch["image"], batch["image"].shape[0]
        posterior_key, prior_key = jax.random.split(key)
        mean, logvar, stats = codec.posterior(params, stats, images, train=True)
        z = draw(posterior_key, mean, logvar)
        if "sample" in fakes:
            z = jnp.concatenate([z, jax.random.normal(prior_key, z.shape)])
        decoded, stats = codec.reconstruct(params, stats, z)
        seen = jnp.concatenate([images, decoded])
        judged, (costs, stats) = pulled_back_once(judge, "gan")(params["discriminator"], seen, stats)
        values = image_terms.values(frozen, batch, decoded[:n]) | {"kl": kl(mean, logvar)}
        return {name: jnp.mean(value) for name, value in values.items()} | judged | costs, stats

    def evaluate(params, stats, frozen, batch):
        images = batch["image"]
        mean, logvar = codec.encode(params, stats, frozen, images)
        recon = codec.decode(params, stats, mean)
        seen = jnp.concatenate([images, recon])
        layers, _ = apply_network(discriminator, "discriminator", params["discriminator"], stats, seen, train=False)
        values = {"kl": kl(mean, logvar), "similarity": compare(layers, images.shape[0])}
        return recon, values | image_terms.feature(frozen, batch, recon)

    return System(
        rules=_rules(config, image_terms.names, saturating),
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


def pulled_back_once(judge: Callable, own_term: str) -> Callable:
    """`judge` (params, images, stats) -> ({term: scalar}, aux), with gradients that are computed once for all players:
    each player's gradient is a weighted sum of the terms' gradients.

    All terms have gradients with respect to the images, only `own_term` with respect to `params`; `aux` has none.
    """

    def forward(params, images, stats):
        terms, pull_back, aux = jax.vjp(lambda *moved: judge(*moved, stats), params, images, has_aux=True)
        unit = {name: {other: jnp.full_like(terms[other], other == name) for other in terms} for name in terms}
        gradients = {name: pull_back(unit[name]) for name in terms}
        of_params, of_images = gradients[own_term][0], {name: gradient[1] for name, gradient in gradients.items()}
        return (terms, aux), (of_params, of_images)

    def backward(gradients, cotangents):
        (of_params, of_images), (weights, _) = gradients, cotangents
        to_images = sum(weights[name] * gradient for name, gradient in of_images.items())
        return jax.tree.map(lambda gradient: weights[own_term] * gradient, of_params), to_images, None

    once = jax.custom_vjp(judge)
    once.defvjp(forward, backward)
    return once


def _rules(config: ConfigDict, image_terms: Sequence[str], saturating: bool) -> dict[str, dict[str, Weight]]:
    def decoder_weight(name: str, sign: float = 1.0) -> Weight:
        term = config.terms[name]
        return weight_schedule(sign * term.get("decoder_weight", term.weight), term.start, term.warmup)

    compared = ("similarity", *image_terms)
    gan = {"gan": decoder_weight("gan", -1.0)} if saturating else {"generator": decoder_weight("gan")}
    return {
        "encoder": {name: term_weight(config.terms[name]) for name in ("kl", *compared)},
        "decoder": {name: decoder_weight(name) for name in compared} | gan,
        "discriminator": {"gan": term_weight(config.terms.gan)},
    }


def balance(equilibrium: float, margin: float):
    """The gate of Larsen et al.'s released code, which keeps decoder and discriminator equally strong.

    The discriminator rests while one of its two costs (nats per image) is below equilibrium - margin, the decoder while
    one is above equilibrium + margin; if both would rest, both are updated. The encoder always is. Margin 0: no gate.
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


def _gan_options(fakes: Sequence[str] = FAKES, saturating: bool = True) -> tuple[tuple[str, ...], bool]:
    unknown = [kind for kind in fakes if kind not in FAKES]
    if unknown or not fakes:
        raise UserError(f"terms.gan.fakes is {tuple(fakes)}; expected one or both of {', '.join(FAKES)}.")
    return tuple(fakes), saturating
