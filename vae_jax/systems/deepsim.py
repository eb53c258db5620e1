"""DeePSiM: images are compared by a comparator's features, by a discriminator and by their pixels.

Dosovitskiy and Brox 2016, equation (1). Two players share one forward pass, where G(x) is the image generated for y:

    generator      kl + image terms (feature, l2, ...) + adversarial, which is -log D(G(x))      equation (4)
    discriminator  discrimination, which is -log D(y) - log(1 - D(G(x)))                         equation (3)

Without the term adversarial there is no discriminator: squared errors alone are the paper's baseline; with it,
`config.adversary` has more for the discriminator, see `vae_jax.systems.adversary`. The input of G distinguishes the
three applications:

    deepsim    an encoder's code of y (autoencoder); with the term kl a sample from q(z | y) (VAE)
    inversion  the features of y at a tap of a frozen network, `config.inverted`, which the discriminator also sees
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.errors import UserError, call_with_options
from vae_jax.losses import kl
from vae_jax.losses.adversarial import fake_cost, real_cost
from vae_jax.models import DECODERS, DISCRIMINATORS, ENCODERS
from vae_jax.models.deepsim import AlexNetEncoder
from vae_jax.systems.adversary import Adversary, make_adversary
from vae_jax.systems.contract import Encode, Params, PerExample, Stats, System, Weight, always_open, term_weight
from vae_jax.systems.image_terms import make_image_terms
from vae_jax.systems.networks import (
    Codec,
    apply_network,
    deterministic,
    draw,
    init_networks,
    latent_shape,
    make_network,
)
from vae_jax.weights.finding import RANDOM

GENERATOR = "generator"  # the player that holds encoder and decoder
OWN = ("kl", "adversarial")


@dataclass(frozen=True, kw_only=True)
class CodeSource:
    """The input of the generator. Pure functions of all players' parameters.

    codec: the decoder, and the encoder if z comes from a trained one.
    draw: (params, stats, frozen, images, key) -> (z [B, ...], {term: [B]}, stats) in training.
    encode: (params, stats, frozen, images) -> (mean, logvar) in evaluation.
    untrained: (images) -> z from random weights; only its shape matters.
    frozen: () -> {name: weights} that are not trained.
    pretrained: () -> initial values of a part of the params.
    prior: whether z ~ N(0, 1). conditional: whether the discriminator sees z.
    """

    codec: Codec
    draw: Callable[..., tuple[jax.Array, PerExample, Stats]]
    encode: Encode
    untrained: Callable[[jax.Array], jax.Array]
    frozen: Callable[[], dict[str, Any]] = dict
    pretrained: Callable[[], Params] = dict
    prior: bool = False
    conditional: bool = False


def deepsim(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """An autoencoder, or with the term kl a VAE.

    `config.pretrained` initialises the encoder's AlexNet: a weights file, '' for the usual place, or 'random'.
    """
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    codec = Codec(encoder, make_network(DECODERS, "decoder", config, image_shape), GENERATOR)
    starts_from = config.pretrained
    if starts_from != RANDOM and not isinstance(encoder, AlexNetEncoder):
        raise UserError(
            f"pretrained is {starts_from!r}, but the encoder {config.encoder.name} has no AlexNet. Set it to 'random'."
        )

    def draw_from_posterior(params, stats, frozen, images, key):
        mean, logvar, stats = codec.posterior(params, stats, images, train=True)
        return draw(key, mean, logvar), {"kl": kl(mean, logvar)}, stats

    def draw_code(params, stats, frozen, images, key):
        code, stats = codec.code(params, stats, images, train=True)
        return code, {}, stats

    def encode(params, stats, frozen, images):
        return deterministic(codec.code(params, stats, images, train=False)[0])

    def pretrained():
        if starts_from == RANDOM:
            return {}
        return {GENERATOR: {"encoder": {"alexnet": load_backbone("alexnet", starts_from, ("fc6",))}}}

    def untrained(images):
        return jax.tree.leaves(encoder.init_with_output(jax.random.key(0), images, False)[0])[0]

    variational = "kl" in config.terms
    source = CodeSource(
        codec=codec,
        draw=draw_from_posterior if variational else draw_code,
        encode=codec.encode if variational else encode,
        untrained=untrained,
        pretrained=pretrained,
        prior=variational,
    )
    return _system(config, image_shape, source)


def inversion(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """A generator of images from their features at one tap of a frozen network, `config.inverted`."""
    if "kl" in config.terms:
        raise UserError("The system inversion does not take the term 'kl': its features are deterministic.")
    name, tap, weights = (config.inverted[key] for key in ("name", "tap", "weights"))
    backbone = get_backbone(name, (tap,), config.image_size)

    def encode(params, stats, frozen, images):
        return deterministic(backbone.apply(frozen["inverted"], images, (tap,))[tap])

    def features(params, stats, frozen, images, key):
        return encode(params, stats, frozen, images)[0], {}, stats

    source = CodeSource(
        codec=Codec(None, make_network(DECODERS, "decoder", config, image_shape), GENERATOR),
        draw=features,
        encode=encode,
        untrained=lambda images: backbone.apply(backbone.init(jax.random.key(0), (tap,)), images, (tap,))[tap],
        frozen=lambda: {"inverted": load_backbone(name, weights, (tap,))},
        conditional=True,
    )
    return _system(config, image_shape, source)


def _system(config: ConfigDict, image_shape: tuple[int, int, int], source: CodeSource) -> System:
    codec, adversarial = source.codec, "adversarial" in config.terms
    image_terms = make_image_terms(config, OWN)
    code_shape = latent_shape(source.untrained, image_shape)
    discriminator = make_network(DISCRIMINATORS, "discriminator", config) if adversarial else None
    adversary = make_adversary(config) if adversarial else None
    gate, init_gate = call_with_options(balance, "The gate", **config.gate) if adversarial else (always_open, dict)

    def init(key, batch):
        images, networks = batch["image"], {}
        if codec.encoder is not None:
            networks["encoder"] = (codec.encoder, images)
        z = jnp.zeros((images.shape[0], *code_shape))
        networks["decoder"] = (codec.decoder, z)
        if adversarial:
            networks["discriminator"] = (discriminator, images, {"features": z} if source.conditional else {})
        params, stats = init_networks(key, **networks)
        players = {"discriminator": params.pop("discriminator")} if adversarial else {}
        return {GENERATOR: params} | players, stats | (adversary.init_stats() if adversary else {})

    def judge(params, stats, seen, z, key):
        assert discriminator is not None
        inputs = {"features": z} if source.conditional else {}
        tree = params["discriminator"]
        layers, stats = apply_network(discriminator, "discriminator", tree, stats, seen, train=True, key=key, **inputs)
        return layers["logits"], stats

    def terms(params, stats, frozen, batch, key, step):
        images = batch["image"]
        z_key, dropout_key = jax.random.split(key)
        z, values, stats = source.draw(params, stats, frozen, images, z_key)
        made, stats = codec.reconstruct(params, stats, z)
        values |= image_terms.values(frozen, batch, made)
        if adversary:
            real_key, fake_key = jax.random.split(dropout_key)
            view_key, noise_key = jax.random.split(jax.random.fold_in(key, 1))
            view = functools.partial(adversary.view, view_key)
            code = jax.lax.stop_gradient(z)
            smooth = adversary.smoothness(lambda x: judge(params, stats, view(x), code, real_key)[0], images, noise_key)
            real, stats = judge(params, stats, view(images), z, real_key)  # separate: without a gradient of G
            fake, stats = judge(params, stats, view(made), z, fake_key)
            compared, stats = adversary.compare(real, fake, stats)
            values |= {"adversarial": real_cost(fake), "discrimination": real_cost(real) + fake_cost(fake)}
            values |= smooth | compared
        return {name: jnp.mean(value) for name, value in values.items()}, stats

    def evaluate(params, stats, frozen, batch):
        mean, logvar = source.encode(params, stats, frozen, batch["image"])
        recon = codec.decode(params, stats, mean)
        values = {"kl": kl(mean, logvar)} if source.prior else {}
        return recon, values | image_terms.feature(frozen, batch, recon)

    return System(
        rules=_rules(config, image_terms.names, adversary),
        frozen=lambda: image_terms.frozen() | source.frozen(),
        init=init,
        terms=terms,
        evaluate=evaluate,
        encode=source.encode,
        decode=codec.decode,
        latent_shape=code_shape,
        prior=source.prior,
        encoder_frozen=source.frozen,
        pretrained=source.pretrained,
        gate=gate,
        init_gate=init_gate,
        targets=image_terms.targets,
    )


def _rules(
    config: ConfigDict, image_terms: tuple[str, ...], adversary: Adversary | None
) -> dict[str, dict[str, Weight]]:
    own = tuple(name for name in OWN if name in config.terms)
    rules = {GENERATOR: {name: term_weight(config.terms[name]) for name in (*own, *image_terms)}}
    if adversary:
        term = config.terms.adversarial
        rules[GENERATOR]["adversarial"] = term_weight(term, adversary.head_start)
        rules["discriminator"] = {"discrimination": term.weight} | adversary.rule(term.start, term.warmup)
    return rules


def balance(stop: float, resume: float = 0.0, rest: float = 0.0):
    """(gate, init_gate) that keep the discriminator from winning, by ratio = discrimination / adversarial.

    The paper's rule (section 3.2), if `resume` is 0: the discriminator is not updated while ratio < stop.
    The released rule: below `stop` the discriminator rests until the ratio is above `resume`; above `rest` the
    generator rests until the ratio is below `stop`. It applies from the step after the losses. UserError if the
    numbers are out of order.
    """
    if not (stop >= 0 and (resume == rest == 0 or stop < resume < rest)):
        raise UserError(f"The gate has {stop}, {resume}, {rest}; expected 0 <= stop < resume < rest, or stop alone.")

    def ratio_of(scalars):
        return scalars["discrimination"] / scalars["adversarial"]

    def published(scalars, state):
        return {"discriminator": ratio_of(scalars) >= stop}, state

    def released(scalars, state):
        ratio, discriminator, generator = ratio_of(scalars), state["discriminator"], state["generator"]
        strong = discriminator & (ratio < stop)
        weak = ~discriminator & (ratio > resume)
        discriminator, generator = (discriminator & ~strong) | weak, generator | strong | weak
        losing = generator & (ratio > rest)
        return state, {"discriminator": discriminator | losing, "generator": generator & ~losing}

    if resume == 0:
        return published, dict
    return released, lambda: {"discriminator": jnp.array(True), "generator": jnp.array(True)}
