"""The VAE-GAN: every player is updated by its own published rule only, from one forward pass."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.checks import ROOT, assert_gradients, convolutions
from ml_collections import ConfigDict

from vae_jax.cli import load_config
from vae_jax.compare.comparison import compare
from vae_jax.config import image_shape
from vae_jax.errors import UserError
from vae_jax.models.larsen import LarsenDecoder, LarsenDiscriminator, LarsenEncoder
from vae_jax.state import State, init_state
from vae_jax.systems import System, make_system
from vae_jax.systems.vae_gan import balance
from vae_jax.train import train
from vae_jax.train_step import make_train_step

SHAPE, LATENTS, SCALE, BATCH = (16, 24, 3), 6, 0.03, 5
PLAYERS = ("encoder", "decoder", "discriminator")
KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).uniform(size=(BATCH, *SHAPE)).astype(np.float32).astype(np.float64)

RULES = {
    "encoder": {"kl": 0.7, "similarity": 1.3, "sharpness": 0.2},
    "decoder": {"similarity": 0.6, "sharpness": 0.1, "gan": -40.0},
    "discriminator": {"gan": 0.9},
}
WEIGHTS = {"mean": (1, 1), "sum": (1, 2), "released": (0.66, 0.34)}  # of the costs of real images and of fakes


def small_config(**gan):
    """vaegan_sharp_mnist with tiny networks and different weights everywhere, no gate; `gan`: options of its term."""
    config = load_config(f"{ROOT}/configs/vaegan_sharp_mnist.py:smoke")
    config.latents = LATENTS
    for network in (config.encoder, config.decoder, config.discriminator):
        network.scale = SCALE
    config.terms.kl.weight = 0.7
    config.terms.sharpness.update(weight=0.2, decoder_weight=0.1)
    config.terms.similarity.update(weight=1.3, decoder_weight=0.6)
    config.terms.gan.update(weight=0.9, decoder_weight=40.0, **gan)
    config.gate.margin = 0.0
    return config


class Step(NamedTuple):
    """A system at its first step, and `run` (state, rules, equilibrium) -> (state, scalars), compiled once for all."""

    config: ConfigDict
    system: System
    state: State
    run: Callable


@functools.cache
def first_step(fakes=("recon", "sample"), saturating=True, gated=False, fake_cost="mean") -> Step:
    """SGD at rate 1, so that the update is the gradient."""
    config = small_config(fakes=fakes, saturating=saturating, fake_cost=fake_cost)
    system = make_system(config, SHAPE)
    optimizers = dict.fromkeys(PLAYERS, optax.adam(1e-3) if gated else optax.sgd(1.0))
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), {"image": IMAGES}, ema=False))()

    @jax.jit
    def run(state, rules, equilibrium):
        gate = balance(equilibrium, 0.05) if gated else system.gate
        step = make_train_step(dataclasses.replace(system, rules=rules, gate=gate), optimizers)
        return step(state, {}, {"image": IMAGES}, KEY)

    return Step(config, system, state, run)


def same(old, new) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))


def scale_gradient(x, factor):
    """x, with a gradient that is multiplied by `factor`."""
    return factor * x + jax.lax.stop_gradient((1 - factor) * x)


def by_hand(state, config):
    """A jax.grad per player of its own loss, written out: the document's rules, with weights.

    The fakes' cost as a mean, as algorithm 1's sum, or scaled as by the graph of the released code: every image's cost
    counts, its gradient is multiplied by a weight behind the discriminator and divided by it before.
    """
    encoder, decoder = LarsenEncoder(LATENTS, SCALE), LarsenDecoder(SHAPE, SCALE)
    discriminator = LarsenDiscriminator(SCALE)
    step_key, prior_key = jax.random.split(jax.random.fold_in(KEY, 0))
    similarity, gan = config.terms.similarity, config.terms.gan

    def apply(network, name, params, *inputs):
        variables = {"params": params[name], **state.stats[name]}
        return network.apply(variables, *inputs, True, mutable=["batch_stats"])[0]

    def strongest(y):
        around = [y[:, i : 14 + i, j : 22 + j] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
        return jnp.max(jnp.stack(around), 0) - y[:, 1:15, 1:23]

    def loss(own, player):
        params = state.params | {player: own}
        mean, logvar = apply(encoder, "encoder", params, IMAGES)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(step_key, mean.shape)
        if "sample" in gan.fakes:
            z = jnp.concatenate([z, jax.random.normal(prior_key, mean.shape)])
        decoded = apply(decoder, "decoder", params, z)
        seen = jnp.concatenate([IMAGES, decoded])
        layers = apply(discriminator, "discriminator", params, seen)
        logits = layers["logits"]
        if gan.fake_cost == "released":
            weights = np.repeat([0.66, 0.17, 0.17], BATCH)
            seen = scale_gradient(seen, 1 / weights.reshape(-1, 1, 1, 1))
            logits = scale_gradient(apply(discriminator, "discriminator", params, seen)["logits"], weights)
        p = jax.nn.sigmoid(logits)
        of = {"real": p[:BATCH], "recon": p[BATCH : 2 * BATCH], "sample": p[2 * BATCH :]}
        fake = jnp.concatenate([of[kind] for kind in gan.fakes])
        l_fake = jnp.mean(-jnp.log(1 - fake)) if gan.fake_cost == "mean" else jnp.sum(-jnp.log(1 - fake)) / BATCH
        l_gan = -jnp.mean(jnp.log(of["real"])) + l_fake
        l_prior = jnp.mean(jnp.sum(-0.5 * (1 + logvar - mean**2 - jnp.exp(logvar)), 1))
        l_rec = 0.5 * jnp.sum((layers["conv4"][:BATCH] - layers["conv4"][BATCH : 2 * BATCH]) ** 2) / BATCH
        l_sharpness = jnp.sum((strongest(IMAGES) - strongest(decoded[:BATCH])) ** 2) / BATCH
        towards_real = -l_gan if gan.saturating else -jnp.mean(jnp.log(fake))
        return {
            "encoder": 0.7 * l_prior + similarity.weight * l_rec + 0.2 * l_sharpness,
            "decoder": similarity.decoder_weight * l_rec + gan.decoder_weight * towards_real + 0.1 * l_sharpness,
            "discriminator": gan.weight * l_gan,
        }[player]

    return jax.jit(lambda params: {player: jax.grad(loss)(params[player], player) for player in PLAYERS})(state.params)


@pytest.mark.parametrize(
    ("fakes", "saturating", "fake_cost"),
    [
        (("recon", "sample"), True, "mean"),
        (("recon", "sample"), True, "sum"),
        (("recon", "sample"), True, "released"),
        (("sample",), True, "mean"),
        (("recon",), False, "mean"),
    ],
)
def test_every_player_descends_on_its_own_loss(fakes, saturating, fake_cost):
    """To 1e-6, in float64 (in float32 both round to some 3e-6 of the largest entry), with the config's weights."""
    config, system, state, run = first_step(fakes, saturating, fake_cost=fake_cost)
    if saturating and fake_cost != "released":
        assert system.rules == RULES
    with jax.enable_x64(True):
        state = jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, jax.device_get(state))
        after, scalars = run(state, system.rules, 0.0)
        after, expected, scalars = jax.device_get((after.params, by_hand(state, config), scalars))
    assert scalars["finite"] == 1
    real, fake = WEIGHTS[fake_cost]
    assert scalars["gan"] == pytest.approx(real * scalars["gan_real"] + fake * scalars["gan_fake"], rel=1e-12)
    for player in PLAYERS:
        moved = jax.tree.map(lambda old, new: old - new, state.params[player], after[player])
        assert_gradients(moved, expected[player], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("player", "term"), [(player, term) for player, rule in RULES.items() for term in rule])
def test_no_other_term_reaches_a_player(player, term):
    """Changing a weight in a player's rule changes that player's update and no other, bit for bit."""
    _, _, state, run = first_step()
    plain, _ = run(state, RULES, 0.0)
    changed, _ = run(state, RULES | {player: RULES[player] | {term: 3.3}}, 0.0)
    for other in PLAYERS:
        assert same(plain.params[other], changed.params[other]) == (other != player)


def test_who_descends_on_what():
    """The GAN's term never moves the encoder, the feature term never the discriminator."""
    assert set(first_step().system.rules["encoder"]) == {"kl", "similarity", "sharpness"}
    assert set(first_step().system.rules["discriminator"]) == {"gan"}
    assert set(first_step(("recon",), False).system.rules["decoder"]) == {"similarity", "generator", "sharpness"}


@pytest.mark.parametrize(("equilibrium", "rests"), [(5.0, "discriminator"), (0.1, "decoder")])
def test_a_shut_gate_leaves_everything_as_it_was(equilibrium, rests):
    """Untrained costs are near 0.69 nats: far below 5 - 0.05 the discriminator rests, far above 0.15 the decoder."""
    _, _, state, run = first_step(gated=True)
    after, scalars = run(state, RULES, equilibrium)
    for player in PLAYERS:
        old, new = ((s.params[player], s.opt_state[player]) for s in (state, after))
        assert same(old, new) == (player == rests)
        assert float(scalars[f"updated/{player}"]) == (player != rests)


@pytest.mark.parametrize(
    ("real", "fake", "discriminator", "decoder"),
    [
        (0.68, 0.68, True, True),
        (0.32, 0.68, False, True),  # real cost below 0.33
        (0.68, 0.32, False, True),
        (1.04, 0.68, True, False),  # above 1.03
        (0.68, 1.04, True, False),
        (0.32, 1.04, True, True),  # both would rest
        (1.04, 0.32, True, True),
    ],
)
def test_the_balance_of_the_players(real, fake, discriminator, decoder):
    """The rule of the released code: equilibrium 0.68, margin 0.35."""
    open_gates, _ = balance(0.68, 0.35)({"gan_real": jnp.float32(real), "gan_fake": jnp.float32(fake)}, {})
    assert {name: bool(value) for name, value in open_gates.items()} == {
        "discriminator": discriminator,
        "decoder": decoder,
    }
    assert balance(0.68, 0.0)({"gan_real": real, "gan_fake": fake}, {})[0] == {}


def test_one_forward_pass():
    """Each network is run once: three convolutions of the encoder, one and three times four that double of the decoder,
    four of the discriminator."""
    system = first_step().system
    params, stats = jax.eval_shape(system.init, KEY, {"image": IMAGES})
    jaxpr = jax.make_jaxpr(system.terms)(params, stats, {}, {"image": IMAGES}, KEY, 0).jaxpr
    assert len(list(convolutions(jaxpr))) == 3 + (1 + 3 * 4) + 4


def test_mistakes_in_the_config():
    def fails(match, term, **changes):
        config = small_config()
        config.terms[term].update(changes)
        with pytest.raises(UserError, match=match):
            system = make_system(config, SHAPE)
            jax.eval_shape(system.terms, *jax.eval_shape(system.init, KEY, {"image": IMAGES}), {},
                           {"image": IMAGES}, KEY, 0)  # fmt: skip

    fails(r"terms.gan.fakes is \('samples',\); expected one or both of recon, sample", "gan", fakes=("samples",))
    fails(r"terms.gan.fakes is \(\)", "gan", fakes=())
    fails("Unknown terms.gan.fake_cost 'summ'. Did you mean 'sum'", "gan", fake_cost="summ")
    fails(r"Unknown terms.similarity.layer 'conv5'. Did you mean 'conv", "similarity", layer="conv5")
    config = small_config()
    config.terms.gan.saturate = True
    with pytest.raises(UserError, match="The term gan has no option 'saturate'. Did you mean 'saturating'"):
        make_system(config, SHAPE)
    config = small_config()
    del config.terms.similarity.layer
    with pytest.raises(UserError, match="The term similarity needs the option 'layer'"):
        make_system(config, SHAPE)
    config = small_config()
    del config.terms.similarity
    with pytest.raises(UserError, match="A vae_gan needs the term similarity"):
        make_system(config, SHAPE)


@pytest.mark.slow
def test_from_training_to_a_comparison(tmp_path, smoke):
    """A run is evaluated with the metrics that its config adds, and a comparison plots its players."""
    config = smoke("vaegan_sharp_mnist")
    config.latents, config.steps_per_call = LATENTS, 1
    for network in (config.encoder, config.decoder, config.discriminator):
        network.scale = SCALE
    workdir = tmp_path / "gan"
    metrics = train(config.lock(), str(workdir))
    assert {"kl", "similarity", "digit_accuracy", "target_digit_accuracy"} <= set(metrics)
    assert 0 <= metrics["digit_accuracy"] <= 1
    record = compare([str(workdir), str(workdir)], tmp_path / "compare")
    assert record["originals"]["digit_accuracy"] == pytest.approx(metrics["target_digit_accuracy"])
    assert record["rows"][0]["mean"]["digit_accuracy"] == pytest.approx(metrics["digit_accuracy"])
    assert (tmp_path / "compare" / "training_of_gan.png").stat().st_size > 1_000


def test_images_of_a_linear_decoder_lie_in_the_range():
    """Evaluation, pictures and decode clip to [0, 1]; training does not clip the decoder's output."""
    config = load_config(f"{ROOT}/configs/losses_celeba.py:vae_gan,smoke")
    assert config.decoder.name == "celeba"  # no output activation
    system = make_system(config, image_shape(config))
    images = jax.random.uniform(jax.random.key(0), (4, *image_shape(config)))
    params, stats = jax.jit(system.init)(jax.random.key(1), {"image": images})
    params["decoder"]["image"]["bias"] = jnp.array([-3.0, 0.5, 3.0])
    decoded = system.decode(params, stats, jnp.zeros((4, config.latents)))
    recon, _ = system.evaluate(params, stats, {}, {"image": images})
    for made in (decoded, recon):
        assert made.min() == 0 and made.max() == 1
    np.testing.assert_array_equal(recon[..., 0], 0)
    np.testing.assert_array_equal(recon[..., 2], 1)
