"""The autoencoder of latent diffusion: pixels, LPIPS and a patch discriminator with an adaptive weight.

The loss of Esser et al. 2021 (equations (6) and (7)) with a KL penalty, as Rombach et al. 2022 released it. Two players
share one forward pass; the discriminator enters at the first step of the term adversarial:

    autoencoder     nll + kl + adversarial, which is lambda * (- mean D(xhat))
    discriminator   discrimination, which is 1/2 (mean max(0, 1 - D(x)) + mean max(0, 1 + D(xhat)))

    nll = sum over all n = H W C values of an image of (rec / exp(s) + s), s learnt; mean over the batch
    lambda = min(||gradient of nll|| / (||gradient of - mean D(xhat)|| + 1e-4), 1e4), a constant to both players

`config.adversary` has more for the discriminator (see `vae_jax.systems.adversary`), another ceiling than 1e4, and
another cost of the generator than - mean D(xhat): non_saturating is mean log(1 + exp(-D(xhat))), Goodfellow et al.'s.

rec is the weighted sum of the image terms at one value. LPIPS, one number per image, counts at all n of them, so nll =
n (rec / exp(s) + s) if each image term is a mean. lambda is the scalar `adaptive_weight`; its gradients are with
respect to the kernel of the decoder's last layer, and its 1e-4 is from the released code (1e-6 in the paper). The
weight of the term adversarial multiplies it.

The discriminator sees real images and reconstructions in separate calls, as released: BatchNorm normalises each by its
own statistics. Both players are updated at once, whereas the released code makes a second forward pass after the
autoencoder's update. Before its start the discriminator rests, except for its running statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.losses import kl
from vae_jax.losses.adversarial import hinge_fake_cost, hinge_generator_cost, hinge_real_cost, real_cost
from vae_jax.models import DECODERS, DISCRIMINATORS, ENCODERS
from vae_jax.systems.adversary import make_adversary
from vae_jax.systems.contract import System, term_weight, weight_at, weight_schedule
from vae_jax.systems.image_terms import make_image_terms
from vae_jax.systems.networks import Codec, apply_network, draw, init_networks, latent_shape, make_network

OWN = ("kl", "adversarial")
EPSILON = 1e-4
GENERATOR_COSTS = {"hinge": hinge_generator_cost, "non_saturating": real_cost}


def kl_autoencoder(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """The terms are kl, adversarial and any image terms; unless `config.learn_logvar`, s stays 0, as released."""
    _check(config)
    image_terms = make_image_terms(config, OWN)
    adversarial, adversary = config.terms.adversarial, make_adversary(config)
    delays = {"adversarial": adversary.head_start}
    weights = {name: term_weight(term, delays.get(name, 0)) for name, term in config.terms.items()}
    enters = weight_schedule(1.0, adversarial.start, adversarial.warmup)
    generator_cost = GENERATOR_COSTS[config.adversary.generator]
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    decoder = make_network(DECODERS, "decoder", config, image_shape)
    discriminator = make_network(DISCRIMINATORS, "discriminator", config)
    last = getattr(decoder, "last_layer", None)
    if last is None:
        raise UserError(f"The decoder {config.decoder.name} does not name its `last_layer`. Choose another decoder.")
    codec = Codec(encoder, decoder, "autoencoder")
    code_shape = latent_shape(lambda x: encoder.init_with_output(jax.random.key(0), x, False)[0][0], image_shape)

    def init(key, batch):
        images = batch["image"]
        z = jnp.zeros((images.shape[0], *code_shape))
        networks = {"encoder": (encoder, images), "decoder": (decoder, z), "discriminator": (discriminator, images)}
        params, stats = init_networks(key, **networks)
        players = {"discriminator": params.pop("discriminator")}
        return {"autoencoder": params | {"logvar": jnp.zeros(())}} | players, stats | adversary.init_stats()

    def reconstruct(networks, stats, z):
        """xhat, a function from its gradient to that of the last layer's kernel, and the statistics."""
        tree = networks["decoder"]

        def by_kernel(kernel):
            layer = tree[last] | {"kernel": kernel}
            return apply_network(decoder, "decoder", tree | {last: layer}, stats, z, train=True)

        recon, pull_back, stats = jax.vjp(by_kernel, tree[last]["kernel"], has_aux=True)
        return recon, lambda gradient: pull_back(gradient)[0], stats

    def terms(params, stats, frozen, batch, key, step):
        images, networks = batch["image"], params["autoencoder"]
        mean, logvar, stats = codec.posterior(params, stats, images, train=True)
        recon, to_last_layer, stats = reconstruct(networks, stats, draw(key, mean, logvar))
        view_key, noise_key = jax.random.split(jax.random.fold_in(key, 1))

        def compare(xhat):
            values = {name: jnp.mean(value) for name, value in image_terms.values(frozen, batch, xhat).items()}
            return sum(weight_at(weights[name], step) * value for name, value in values.items()), values

        def judge(x, stats):
            seen, tree = adversary.view(view_key, x), params["discriminator"]
            layers, stats = apply_network(discriminator, "discriminator", tree, stats, seen, train=True)
            return layers["logits"], stats

        def deceive(xhat, stats):
            logits, stats = judge(xhat, stats)
            return jnp.mean(generator_cost(logits)), (logits, stats)

        xhat = jax.lax.stop_gradient(recon)
        penalties = adversary.smoothness(lambda x: judge(x, stats)[0], images, noise_key)
        real, stats = judge(images, stats)
        (rec, values), rec_gradient = jax.value_and_grad(compare, has_aux=True)(xhat)
        (g, (fake, stats)), g_gradient = jax.value_and_grad(deceive, has_aux=True)(xhat, stats)
        compared, stats = adversary.compare(real, fake, stats)

        s, n = networks["logvar"] if config.learn_logvar else 0.0, np.prod(image_shape)
        gradients = to_last_layer(n / jnp.exp(s) * rec_gradient), to_last_layer(g_gradient)
        weight = adaptive_weight(*gradients, config.adversary.ceiling)
        return values | penalties | compared | {
            "nll": n * (with_gradient(rec, rec_gradient, recon) / jnp.exp(s) + s),
            "kl": jnp.mean(kl(mean, logvar)),
            "adversarial": weight * with_gradient(g, g_gradient, recon),
            "discrimination": jnp.mean(hinge_real_cost(real) + hinge_fake_cost(fake)) / 2,
            "adaptive_weight": weight,
            "discriminator_enters": jnp.asarray(weight_at(enters, step), recon.dtype),
        }, stats

    def evaluate(params, stats, frozen, batch):
        mean, logvar = codec.encode(params, stats, frozen, batch["image"])
        recon = codec.decode(params, stats, mean)
        return recon, {"kl": kl(mean, logvar)} | image_terms.feature(frozen, batch, recon)

    rules = {
        "autoencoder": {"nll": 1.0, "kl": weights["kl"], "adversarial": weights["adversarial"]},
        "discriminator": {"discrimination": enters} | adversary.rule(adversarial.start, adversarial.warmup),
    }
    return System(
        rules=rules,
        frozen=image_terms.frozen,
        init=init,
        terms=terms,
        evaluate=evaluate,
        encode=codec.encode,
        decode=codec.decode,
        latent_shape=code_shape,
        gate=gate,
        targets=image_terms.targets,
    )


def gate(scalars, state):
    """The discriminator rests until it enters."""
    return {"discriminator": scalars["discriminator_enters"] > 0}, state


def adaptive_weight(nll_gradient: jax.Array, g_gradient: jax.Array, ceiling: float) -> jax.Array:
    """lambda from the gradients of the last layer's kernel, without a gradient (Esser et al. 2021, equation (7))."""
    ratio = optax.tree.norm(nll_gradient) / (optax.tree.norm(g_gradient) + EPSILON)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, ceiling))


def with_gradient(value: jax.Array, gradient: jax.Array, x: jax.Array) -> jax.Array:
    """`value` as a function of x with this known gradient, so that it is not computed again."""
    value, gradient = jax.lax.stop_gradient((value, gradient))
    return value + jnp.sum(gradient * (x - jax.lax.stop_gradient(x)))


def _check(config: ConfigDict) -> None:
    if missing := [name for name in OWN if name not in config.terms]:
        raise UserError(f"A kl_autoencoder needs the term {missing[0]}: it takes {', '.join(OWN)} and image terms.")
    if set(config.terms) == set(OWN):
        raise UserError("A kl_autoencoder needs an image term besides kl and adversarial, such as l1 or lpips.")
