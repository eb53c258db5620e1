"""Terms that are held at a target: the controller by hand, its place in the train step, and what is told."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.commands import assert_mistake, run
from helpers.two_players import BATCH, ROOT, SGD, first_state, two_players

from vae_jax.cli import load_config
from vae_jax.config import check_config
from vae_jax.errors import UserError
from vae_jax.multipliers import Held, init_multipliers
from vae_jax.runs.workdir import read_lines
from vae_jax.systems import make_system
from vae_jax.systems.contract import term_weight
from vae_jax.train_step import make_train_step, to_float


def by_hand(values, target, since=0):
    """The factors of a weight before each step, in float64, and after the last."""
    deviation = integral = 0.0
    factors = [1.0]
    for step, value in enumerate(values):
        if step >= since:
            ratio = np.clip(np.log(max(value, 1e-30) / target), -1, 1)
            deviation = 0.9 * deviation + 0.1 * ratio
            integral = np.clip(integral + 0.03 * deviation, -np.log(1e6), np.log(1e6))
        factors.append(np.exp(np.clip(integral + deviation, -np.log(1e6), np.log(1e6))))
    return np.array(factors)


def held_system(target, since=0):
    return two_players(
        rules={"generator": {"rec": 2.0, "prior": Held(3.0, target, since)}, "discriminator": {"gan": 1.0}}
    )


@pytest.mark.parametrize("since", [0, 3])
def test_the_weight_follows_by_hand(since):
    """Of a term first above and then below its target; logged before it moves."""
    system, slow = held_system(0.3, since), SGD | {"generator": optax.sgd(0.003)}
    state, step, values, weights = first_state(system, slow), jax.jit(make_train_step(system, slow)), [], []
    for _ in range(60):
        state, scalars = step(state, {}, BATCH, ROOT)
        values.append(float(scalars["prior"]))
        weights.append(float(scalars["prior_weight"]))
    expected = 3 * by_hand(values, 0.3, since)
    assert values[0] > 0.3 > values[-1] and expected.max() > 3.05
    np.testing.assert_allclose(weights, expected[:-1], rtol=1e-5)


def test_a_player_descends_on_the_weight_that_is_logged():
    """Against a hand-written jax.grad, after the weight has moved."""
    system = held_system(0.01)
    step = jax.jit(make_train_step(system, SGD))
    state, _ = step(first_state(system, SGD), {}, BATCH, ROOT)
    new, scalars = step(state, {}, BATCH, ROOT)
    weight = float(scalars["prior_weight"])

    def loss(own):
        terms, _ = system.terms(state.params | {"generator": own}, state.stats, {}, to_float(BATCH), ROOT, 1)
        return 2 * terms["rec"] + weight * terms["prior"]

    value, gradient = jax.value_and_grad(loss)(state.params["generator"])
    assert weight == pytest.approx(3 * np.exp(0.1 * 1.03), rel=1e-5)
    np.testing.assert_allclose(scalars["loss/generator"], value, rtol=1e-6)
    np.testing.assert_allclose(
        new.params["generator"]["w"], state.params["generator"]["w"] - 0.1 * gradient["w"], rtol=1e-6
    )


@pytest.mark.parametrize(("value", "factor"), [(0.0, 1e-6), (-5.0, 1e-6), (1e9, 1e6)])
def test_bounds(value, factor):
    """A term that cannot get to its target moves its weight a millionfold and no further; one below zero is below."""
    system = two_players(rules={"generator": {"prior": Held(1.0, 1.0, 0)}, "discriminator": {"gan": 1.0}})

    def terms(*arguments):
        values, stats = system.terms(*arguments)
        return values | {"prior": jnp.float32(value)}, stats

    step = jax.jit(make_train_step(dataclasses.replace(system, terms=terms), SGD))
    state = first_state(system, SGD)
    state = state._replace(multipliers=jax.tree.map(lambda _: jnp.float32(np.log(factor)), state.multipliers))
    for _ in range(30):
        state, scalars = step(state, {}, BATCH, ROOT)
    np.testing.assert_allclose(scalars["prior_weight"], factor, rtol=1e-4)


def test_a_step_that_is_not_finite_moves_nothing():
    system = held_system(0.3)
    step = jax.jit(make_train_step(system, SGD))
    state, _ = step(first_state(system, SGD), {}, BATCH, ROOT)
    bad = state._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params))
    after, scalars = step(bad, {}, BATCH, ROOT)
    assert not scalars["finite"]
    jax.tree.map(np.testing.assert_array_equal, after.multipliers, state.multipliers)


def test_no_target_no_state():
    config = load_config("vae_mnist:smoke")
    assert init_multipliers(make_system(config, (28, 28, 1)).rules) == {}
    config.terms.kl.target = 0.0
    assert init_multipliers(make_system(config, (28, 28, 1)).rules) == {}
    config.terms.kl.update(target=20, start=2, warmup=3)
    held = term_weight(config.terms.kl)
    assert (held.target, held.since) == (20.0, 5)


SYSTEMS = ("vae_mnist", "blur_vae_mnist", "vaegan_mnist", "kl_autoencoder", "deepsim_vae_imagenet", "sr_vae_pets")


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_with_a_kl_holds_it(name):
    config = load_config(f"{name}:smoke")
    config.terms.kl.target = 20.0
    shape = (config.image_size, config.image_size, 1 if config.data.grey or "mnist" in name else 3)
    assert set(init_multipliers(make_system(config, shape).rules)) == {"kl"}


def test_mistakes():
    config = load_config("vae_mnist:smoke")
    config.terms.kl.target = -1.0
    with pytest.raises(UserError, match=r"terms.kl.target is -1.0; it must be at least 0"):
        check_config(config)
    config.terms.kl.update(target=5.0, weight=0.0)
    with pytest.raises(UserError, match=r"starts from terms.kl.weight, which must be above 0"):
        check_config(config)
    config = load_config("kl_autoencoder:smoke")
    config.terms.l1.target = 0.1
    with pytest.raises(UserError, match=r"terms.l1.target: no player of kl_autoencoder weighs l1 by itself"):
        make_system(config, (32, 32, 3))


def test_the_command(tmp_path):
    """A rate and a squared error can be held; the weight is logged, and no ELBO is claimed of a density that moves."""
    flags = ["--config=vae_mnist:smoke", "--config.terms.kl.target=5", "--config.terms.kl.warmup=2"]
    result = run("vae_jax.main", f"--workdir={tmp_path / 'run'}", *flags)
    assert result.returncode == 0, result.stderr
    lines = [line for line in read_lines(tmp_path / "run" / "scalars.jsonl") if "kl_weight" in line]
    assert [line["step"] for line in lines] == [2, 4] and lines[1]["kl_weight"] != lines[0]["kl_weight"]
    assert not {"elbo", "bits_per_dimension"} & set(
        json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    )
    assert_mistake(
        run("vae_jax.main", f"--workdir={tmp_path / 'run'}", flags[0], "--config.terms.kl.target=6", flags[2]),
        "terms.kl.target: 5 in the workdir, 6 now",
    )
