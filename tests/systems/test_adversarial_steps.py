"""One step of every system that has a discriminator, with all that keeps it from winning, written by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.checks import ROOT, assert_gradients

from vae_jax.cli import load_config
from vae_jax.errors import UserError
from vae_jax.models.celeba import CelebaDecoder, CelebaEncoder
from vae_jax.models.deepsim import DeepsimDecoder, DeepsimDiscriminator, DeepsimEncoder
from vae_jax.models.larsen import LarsenDecoder, LarsenDiscriminator, LarsenEncoder
from vae_jax.models.patchgan import PatchDiscriminator
from vae_jax.state import init_state
from vae_jax.systems import make_system
from vae_jax.systems.adversary import make_adversary
from vae_jax.train_step import make_train_step

KEY, BATCH = jax.random.key(3), 3
SHAPE = (16, 24, 3)  # of the VAE-GAN


def config_of(name: str, **options):
    """A small config of each system with other weights, no gate, and `options` of its adversary."""
    if name == "kl_autoencoder":
        config = load_config(f"{ROOT}/configs/kl_autoencoder.py:celeba,smoke")
        with config.unlocked():
            del config.terms["lpips"]
        config.terms.l1.weight, config.terms.kl.weight, config.latents = 0.17, 0.03, 5
        config.terms.adversarial.update(weight=0.8, start=0)
        config.encoder = config.decoder = {"name": "celeba", "slope": 0.2}
        config.discriminator.update(width=4, layers=1)
    elif name == "vae_gan":
        config = load_config(f"{ROOT}/configs/vaegan_celeba.py:smoke")
        config.latents, config.gate.margin = 5, 0.0
        for network in (config.encoder, config.decoder, config.discriminator):
            network.scale = 0.03
        config.terms.kl.weight, config.terms.similarity.weight = 0.7, 1.3
        config.terms.gan.update(weight=0.9)
    else:
        config = load_config(f"{ROOT}/configs/deepsim_ae_stl10.py:smoke")
        with config.unlocked():
            del config.terms["feature"]
        config.decoder.scale = config.discriminator.scale = config.encoder.scale = 1 / 16
        config.terms.adversarial.weight, config.terms.l2.weight, config.gate.stop = 0.7, 0.3, 0.0
    config.adversary.update(options)
    return config


def taken(config, shape):
    """The state before and after a step at rate 1 in float64, the scalars, and the images."""
    rng = np.random.default_rng(0)
    batch = {"image": rng.uniform(size=(BATCH, *shape)).astype(np.float32).astype(np.float64)}
    system = make_system(config, shape)
    optimizers = dict.fromkeys(system.rules, optax.sgd(1.0))
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), batch, ema=False))()
    with jax.enable_x64(True):
        before = jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, jax.device_get(state))
        if "lecam" in before.stats:
            before.stats["lecam"].update(real=np.float64(0.4), fake=np.float64(-0.3))
        frozen = jax.device_get(system.frozen())
        after, scalars = jax.jit(make_train_step(system, optimizers))(before, frozen, batch, KEY)
        return before, jax.device_get(after), scalars, batch["image"]


def seen(key, x, names):
    """DiffAugment's translation and cutout of x, an image at a time, with the draws of `key`."""
    batch, h, w, _ = x.shape
    for number, name in enumerate(names):
        one, two = jax.random.split(jax.random.fold_in(key, number))
        if name == "translation":
            r, c = int(h / 8 + 0.5), int(w / 8 + 0.5)
            down, right = (jax.random.randint(k, (batch,), 0, 2 * n + 1) - n for k, n in ((one, r), (two, c)))
            i, j = jnp.arange(h)[None, :] + down[:, None], jnp.arange(w)[None, :] + right[:, None]
            inside = ((i >= 0) & (i < h))[:, :, None, None] & ((j >= 0) & (j < w))[:, None, :, None]
            rows = jnp.take_along_axis(x, jnp.clip(i, 0, h - 1)[:, :, None, None], axis=1)
            both = jnp.take_along_axis(rows, jnp.clip(j, 0, w - 1)[:, None, :, None], axis=2)
            x = jnp.where(inside, both, 0.5)
        else:
            bounds = []
            for k, side in ((one, h), (two, w)):
                size = side // 2
                centre = jax.random.randint(k, (batch, 1), 0, side + 1 - size % 2)
                at = jnp.arange(side)[None, :] - centre + size // 2
                bounds.append((at >= 0) & (at < size))
            x = jnp.where(bounds[0][:, :, None, None] & bounds[1][:, None, :, None], 0.5, x)
    return x


def penalties(logits, real, fake, x, noise_key, options):
    """lecam and gamma r1 with anchors 0.4 and -0.3, written out; `logits` (x) -> one number per image."""
    total = options.get("lecam", 0.0) * (jnp.mean((real + 0.3) ** 2) + jnp.mean((fake - 0.4) ** 2))
    gamma = options.get("r1", 0.0)
    if "r1_step" in options:
        u = jax.random.normal(noise_key, x.shape)
        slopes = (logits(x + options["r1_step"] * u) - logits(x)) / options["r1_step"]
        return total + gamma / 2 * jnp.mean(slopes**2)
    if gamma:
        gradient = jax.grad(lambda x: jnp.sum(logits(x)))(x)
        total += gamma / 2 * jnp.sum(gradient**2) / len(x)
    return total


def per_image(logits):
    return logits.reshape(len(logits), -1).mean(1)


def check(before, after, loss):
    """Each player moved by the gradient of its own loss (params, player), to 1e-6 of the largest entry."""
    with jax.enable_x64(True):
        expected = {
            player: jax.jit(
                jax.grad(lambda own, player=player: loss(before.params | {player: own}, player))
            )(before.params[player])
            for player in before.params
        }  # fmt: skip
    for player, gradients in jax.device_get(expected).items():
        moved = jax.tree.map(lambda old, new: old - new, before.params[player], after.params[player])
        assert_gradients(moved, gradients, rtol=0, atol=1e-6)


EXACT = {"lecam": 0.3, "r1": 0.2}
DIFFERENCES = {"lecam": 0.3, "r1": 0.2, "r1_step": 0.01, "augment": ("translation", "cutout")}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(EXACT, marks=pytest.mark.slow),
        DIFFERENCES | {"generator": "non_saturating", "ceiling": 0.01},
    ],
)
def test_a_step_of_the_kl_autoencoder(options):
    before, after, scalars, x = taken(config_of("kl_autoencoder", **options), (32, 32, 3))
    encoder, decoder, discriminator = CelebaEncoder(5), CelebaDecoder((32, 32, 3)), PatchDiscriminator(4, layers=1)
    key = jax.random.fold_in(KEY, 0)
    views, noise = jax.random.split(jax.random.fold_in(key, 1))

    def apply(network, part, tree, *inputs):
        variables = {"params": tree, **before.stats.get(part, {})}
        return network.apply(variables, *inputs, True, mutable=["batch_stats"])[0]

    def loss(params, player):
        own = params["autoencoder"]
        mean, logvar = apply(encoder, "encoder", own["encoder"], x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape)
        xhat = apply(decoder, "decoder", own["decoder"], z)

        def logits(images):
            images = seen(views, images, options.get("augment", ()))
            return apply(discriminator, "discriminator", params["discriminator"], images)["logits"]

        real, fake = logits(x), logits(xhat)
        if player == "discriminator":
            hinge = (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))) / 2
            return hinge + penalties(lambda x: per_image(logits(x)), real, fake, x, noise, options)
        g = jnp.mean(jax.nn.softplus(-fake)) if "generator" in options else -jnp.mean(fake)
        s, n = own["logvar"], x[0].size
        nll = n * (0.17 * jnp.mean(jnp.abs(x - xhat)) / jnp.exp(s) + s)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1 - logvar) / BATCH
        return nll + 0.03 * kl + 0.8 * scalars["adaptive_weight"] * g

    check(before, after, loss)
    assert float(scalars["adaptive_weight"]) == pytest.approx(0.01) or "ceiling" not in options
    moved = 0.99 * 0.4, 0.99 * -0.3
    assert after.stats["lecam"]["real"] != 0.4 and abs(after.stats["lecam"]["real"] - moved[0]) < 0.1


@pytest.mark.slow
def test_a_step_of_the_vae_gan():
    options = EXACT | {"augment": ("translation", "cutout")}
    config = config_of("vae_gan", **options)
    before, after, _, x = taken(config, SHAPE)
    encoder, decoder, discriminator = LarsenEncoder(5, 0.03), LarsenDecoder(SHAPE, 0.03), LarsenDiscriminator(0.03)
    key = jax.random.fold_in(KEY, 0)
    posterior_key, prior_key = jax.random.split(key)
    views, noise = jax.random.split(jax.random.fold_in(key, 1))
    share = config.terms.gan.decoder_weight
    w, fakes = config.terms.similarity.decoder_weight, 2.0 if config.terms.gan.fake_cost == "sum" else 1.0

    def apply(network, name, params, inputs):
        variables = {"params": params[name], **before.stats[name]}
        return network.apply(variables, inputs, True, mutable=["batch_stats"])[0]

    def loss(params, player):
        mean, logvar = apply(encoder, "encoder", params, x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(posterior_key, mean.shape)
        made = apply(decoder, "decoder", params, jnp.concatenate([z, jax.random.normal(prior_key, mean.shape)]))
        kinds = [seen(views, images, options.get("augment", ())) for images in (x, *jnp.split(made, 2))]
        layers = apply(discriminator, "discriminator", params, jnp.concatenate(kinds))
        real, fake = layers["logits"][:BATCH], layers["logits"][BATCH:]
        gan = jnp.mean(jax.nn.softplus(-real)) + fakes * jnp.mean(jax.nn.softplus(fake))
        if player == "discriminator":
            logits = lambda x: apply(  # noqa: E731
                discriminator, "discriminator", params, seen(views, x, options.get("augment", ()))
            )["logits"]
            return 0.9 * gan + penalties(logits, real, fake, x, noise, options)
        features = layers["conv4"]
        similarity = jnp.sum((features[:BATCH] - features[BATCH : 2 * BATCH]) ** 2) / 2 / BATCH
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1 - logvar) / BATCH
        return 0.7 * kl + 1.3 * similarity if player == "encoder" else w * similarity - share * gan

    check(before, after, loss)


@pytest.mark.slow
def test_a_step_of_deepsim():
    options, shape = DIFFERENCES, (64, 72, 3)
    before, after, _, y = taken(config_of("deepsim", **options), shape)
    encoder, decoder = DeepsimEncoder(8, 1 / 16), DeepsimDecoder(shape, 1 / 16)
    discriminator, key = DeepsimDiscriminator(scale=1 / 16), jax.random.fold_in(KEY, 0)
    real_key, fake_key = jax.random.split(jax.random.split(key)[1])
    views, noise = jax.random.split(jax.random.fold_in(key, 1))

    def loss(params, player):
        own = params["generator"]
        g = decoder.apply({"params": own["decoder"]}, encoder.apply({"params": own["encoder"]}, y, True), True)

        def logits(images, key):
            images = seen(views, images, options.get("augment", ()))
            return discriminator.apply({"params": params["discriminator"]}, images, True, rngs={"dropout": key})[
                "logits"
            ]

        real, fake = logits(y, real_key), logits(g, fake_key)
        if player == "generator":
            return 0.7 * jnp.mean(jax.nn.softplus(-fake)) + 0.3 * jnp.sum((g - y) ** 2) / BATCH
        cost = jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))
        return 0.7 * cost + penalties(functools.partial(logits, key=real_key), real, fake, y, noise, options)

    check(before, after, loss)


@pytest.mark.parametrize("name", ["kl_autoencoder", "vae_gan", "deepsim"])
def test_the_discriminator_has_a_head_start(name):
    """Of 10 steps after the term's start: until then the generator does not descend on it, the discriminator does."""
    config = config_of(name, head_start=10, lecam=0.3)
    term = "gan" if name == "vae_gan" else "adversarial"
    config.terms[term].start = 4
    rules = make_system(config, (64, 64, 3)).rules
    player, sign = {"vae_gan": ("decoder", -1)}.get(name, ("autoencoder" if name[0] == "k" else "generator", 1))
    weights = [sign * float(rules[player][term](step)) for step in (0, 13, 14)]
    assert weights[:2] == [0, 0] and weights[2] > 0
    assert [float(rules["discriminator"]["lecam"](step)) for step in (3, 4)] == [0, pytest.approx(0.3)]
    own = "discrimination" if name == "kl_autoencoder" else "gan"
    if name != "deepsim":  # whose discriminator learns from the first step
        assert [float(rules["discriminator"][own](step)) > 0 for step in (3, 4)] == [False, True]


def test_an_unknown_augmentation():
    with pytest.raises(UserError, match="Unknown adversary.augment 'colour'. Did you mean 'color'"):
        make_adversary(config_of("vae_gan", augment=("colour",)))
