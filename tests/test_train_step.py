"""The contract of players: each is updated by the gradient of its own row only."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.two_players import BATCH, ROOT, SGD, first_state, two_players

from vae_jax.experiment import make_experiment
from vae_jax.optim import make_optimizer
from vae_jax.runtime.rngs import root_key
from vae_jax.state import averaged, digest
from vae_jax.systems.contract import weight_schedule
from vae_jax.train_step import make_train_call, make_train_step, to_float


def test_each_player_descends_on_its_own_row():
    """Against a hand-written jax.grad per player."""
    system = two_players()
    state = first_state(system, SGD)
    batch, frozen = to_float(BATCH), {}

    def row(player):
        def loss(own):
            terms, _ = system.terms(state.params | {player: own}, state.stats, frozen, batch, ROOT, 0)
            return sum(weight * terms[term] for term, weight in system.rules[player].items())

        return loss

    new, scalars = jax.jit(make_train_step(system, SGD))(state, frozen, BATCH, ROOT)
    for player, optimizer in SGD.items():
        gradient = jax.grad(row(player))(state.params[player])
        updates, _ = optimizer.update(gradient, state.opt_state[player], state.params[player])
        expected = optax.apply_updates(state.params[player], updates)
        np.testing.assert_allclose(new.params[player]["w"], expected["w"], rtol=1e-6)
        np.testing.assert_allclose(scalars[f"loss/{player}"], row(player)(state.params[player]), rtol=1e-6)
        np.testing.assert_allclose(scalars[f"gradient_norm/{player}"], abs(gradient["w"]), rtol=1e-6)
    assert int(new.step) == 1 and float(new.stats["seen"]) == 1


def test_a_shut_gate_leaves_a_player_bit_equal():
    def gate(scalars, state):
        return {"discriminator": state["steps"] > 0}, {"steps": state["steps"] + 1}

    system = two_players(gate)
    step = jax.jit(make_train_step(system, SGD))
    state = first_state(system, SGD)
    once, scalars = step(state, {}, BATCH, ROOT)
    assert float(scalars["updated/discriminator"]) == 0 and float(scalars["updated/generator"]) == 1
    assert digest((once.params["discriminator"], once.opt_state["discriminator"])) == digest(
        (state.params["discriminator"], state.opt_state["discriminator"])
    )
    twice, scalars = step(once, {}, BATCH, ROOT)
    assert float(scalars["updated/discriminator"]) == 1 and float(twice.gate["steps"]) == 2
    assert float(twice.params["discriminator"]["w"]) != float(once.params["discriminator"]["w"])


def test_moving_average():
    """Of parameters and of running statistics."""
    system = two_players()
    state = first_state(system, SGD, ema=True)
    step = jax.jit(make_train_step(system, SGD, 0.75))
    for decay, count in ((1 / 10, 0), (101 / 110, 100), (0.75, 1000)):  # min(0.75, (1 + t) / (10 + t))
        before = state._replace(step=jnp.int32(count))
        new, _ = step(before, {}, BATCH, ROOT)
        decay = min(0.75, decay)
        expected = decay * before.ema["generator"]["w"] + (1 - decay) * new.params["generator"]["w"]
        np.testing.assert_allclose(new.ema["generator"]["w"], expected, rtol=1e-6)
        np.testing.assert_allclose(new.ema_stats["seen"], 1 - decay, rtol=1e-6)  # 0, and 1 in the step
        assert averaged(new) == (new.ema, new.ema_stats)
    assert averaged(first_state(system, SGD)) == averaged(new._replace(ema={}, params=state.params, stats=state.stats))


def test_weights_are_schedules_of_the_step():
    weight = weight_schedule(2.0, start=3, warmup=4)
    np.testing.assert_allclose([weight(jnp.int32(s)) for s in range(9)], [0, 0, 0, 0.5, 1, 1.5, 2, 2, 2])
    assert weight_schedule(2.0) == 2.0
    system = two_players(rules={"generator": {"rec": weight_schedule(1.0, start=1)}, "discriminator": {"gan": 1.0}})
    state = first_state(system, SGD)
    step = jax.jit(make_train_step(system, SGD))
    once, _ = step(state, {}, BATCH, ROOT)
    assert float(once.params["generator"]["w"]) == float(state.params["generator"]["w"])
    twice, _ = step(once, {}, BATCH, ROOT)
    assert float(twice.params["generator"]["w"]) != float(once.params["generator"]["w"])


@pytest.mark.parametrize(("per_call", "unroll"), [(1, 1), (5, 1), (5, 5)])
def test_steps_per_call_change_nothing(per_call, unroll):
    """Five steps in one call or in five are five single steps; float32 rounds them differently."""
    system = two_players()
    step = make_train_step(system, SGD)
    call, single_step = make_train_call(step, unroll), jax.jit(step)
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf // i for i in range(1, 6)]), BATCH)
    state, columns = first_state(system, SGD), []
    for i in range(0, 5, per_call):
        part = jax.tree.map(lambda leaf, i=i: leaf[i : i + per_call], batches)
        state, scalars = call(state, {}, part, ROOT)
        columns.append(scalars)
    one = first_state(system, SGD)
    for i in range(5):
        one, single = single_step(one, {}, jax.tree.map(lambda leaf, i=i: leaf[i], batches), ROOT)
        for name, value in single.items():
            found = columns[i // per_call][name]
            assert found.shape == (per_call,)
            np.testing.assert_allclose(found[i % per_call], value, rtol=1e-5, atol=1e-7, err_msg=name)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_single_step_is_no_loop():
    """XLA takes a loop of one step apart only after it has chosen the kernels of its convolutions."""
    system = two_players()
    step, state = make_train_step(system, SGD), first_state(system, SGD)

    def loops(steps: int) -> int:
        batches = jax.tree.map(lambda leaf: jnp.stack(steps * [leaf]), BATCH)
        return make_train_call(step, 1).lower(state, {}, batches, ROOT).as_text().count("stablehlo.while")

    assert loops(1) == jax.jit(step).lower(state, {}, BATCH, ROOT).as_text().count("stablehlo.while")
    assert loops(2) == loops(1) + 1


def test_the_state_is_donated_and_nothing_else():
    system = two_players()
    batches = jax.tree.map(lambda leaf: leaf[None], BATCH)
    state, frozen = first_state(system, SGD), {"weights": jnp.ones(3)}
    old = state.opt_state["discriminator"][0].mu["w"]
    make_train_call(make_train_step(system, SGD), 1)(state, frozen, batches, ROOT)
    assert old.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((frozen, batches, ROOT)))


def test_rmsprop_is_that_of_keras_2():
    """Keras 2, which the article used: a = rho a + (1 - rho) g^2; p -= lr g / (sqrt(a) + eps); in float64 by hand.

    Keras 3 has the epsilon inside the root, which is another optimiser for small gradients.
    """
    config = {"name": "rmsprop", "learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 0, "decay": 0.9,
              "eps": 1e-7}  # fmt: skip
    optimizer = make_optimizer(config, 10)
    gradients = np.random.default_rng(0).normal(size=(10, 4)) * [1, 1e-3, 1e-6, 0]
    ours, state = jnp.zeros(4), optimizer.init(jnp.zeros(4))
    expected, average = np.zeros(4), np.zeros(4)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, ours)
        ours = optax.apply_updates(ours, updates)
        average = 0.9 * average + 0.1 * gradient**2
        expected -= 1e-3 * gradient / (np.sqrt(average) + 1e-7)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("decay_vectors", [False, True])
def test_adamw_by_hand(decay_vectors):
    """Loshchilov and Hutter 2019, algorithm 2, in float64; without biases and scales unless asked."""
    config = {"name": "adamw", "learning_rate": 1e-2, "schedule": "constant", "warmup_steps": 0, "weight_decay": 0.1,
              "decay_vectors": decay_vectors}  # fmt: skip
    optimizer = make_optimizer(config, 10)
    random = np.random.default_rng(0)
    params = {"kernel": random.normal(size=(3, 2)), "bias": random.normal(size=2)}
    ours = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    state = optimizer.init(ours)
    m, v = (dict.fromkeys(params, 0.0) for _ in range(2))
    for t in range(1, 6):
        gradients = {name: random.normal(size=leaf.shape) for name, leaf in params.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradients), state, ours)
        ours = optax.apply_updates(ours, updates)
        for name, g in gradients.items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            adam = m[name] / (1 - 0.9**t) / (np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8)
            decay = 0.1 * params[name] if name == "kernel" or decay_vectors else 0
            params[name] = params[name] - 1e-2 * (adam + decay)
    for name, expected in params.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5)


def test_clip_norm_scales_one_player_down():
    """Over all of a player's leaves; a gradient that is shorter stays as it is, and so does the other player's."""
    config = {"name": "sgd", "learning_rate": 1.0, "schedule": "constant", "warmup_steps": 0, "momentum": 0.0}
    gradients = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([[4.0]])}  # a norm of 5
    for clip_norm, factor in ((0.0, 1.0), (2.0, 0.4), (6.0, 1.0)):
        optimizer = make_optimizer(config | {"clip_norm": clip_norm}, 10)
        updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(updates[name], -factor * gradient, rtol=1e-6)
    system = two_players()
    plain = {player: make_optimizer(config, 10) for player in SGD}
    clipped = plain | {"generator": make_optimizer(config | {"clip_norm": 1e-3}, 10)}
    _, free = jax.jit(make_train_step(system, plain))(first_state(system, plain), {}, BATCH, ROOT)
    _, bound = jax.jit(make_train_step(system, clipped))(first_state(system, clipped), {}, BATCH, ROOT)
    assert float(bound["gradient_norm/generator"]) == float(free["gradient_norm/generator"]) > 1e-3
    np.testing.assert_allclose(bound["update_norm/generator"], 1e-3, rtol=1e-5)
    assert float(bound["update_norm/discriminator"]) == float(free["update_norm/discriminator"])


def test_an_update_that_is_not_finite_moves_nothing():
    broken = SGD | {"generator": optax.sgd(jnp.nan)}
    state = first_state(two_players(), broken)
    new, scalars = jax.jit(make_train_step(two_players(), broken))(state, {}, BATCH, ROOT)
    assert float(scalars["finite"]) == 0 and not np.isfinite(scalars["update_norm/generator"])
    assert digest(new.params) == digest(state.params)


@pytest.mark.parametrize("name", ["vae_mnist", "dfc_mnist"])
def test_loss_of_the_article_by_hand(name, smoke):
    """The whole system's scalars against the article's formulas, written out from its text."""
    from vae_jax.backbones import features

    config = smoke(name)
    system = make_experiment(config, (28, 28, 1), labelled=False).system
    images = jax.random.uniform(jax.random.key(1), (4, 28, 28, 1))
    params, stats = system.init(root_key(0, "init"), {"image": images})
    key = jax.random.key(3)
    terms, _ = system.terms(params, stats, system.frozen(), {"image": images}, key, jnp.int32(0))

    t_mean, t_log_var = (np.asarray(a, np.float64) for a in system.encode(params, stats, {}, images))
    kl_loss = -0.5 * np.sum(1 + t_log_var - t_mean**2 - np.exp(t_log_var), axis=-1)
    np.testing.assert_allclose(terms["kl"], kl_loss.mean(), rtol=1e-4)
    t = t_mean + np.exp(t_log_var / 2) * np.asarray(jax.random.normal(key, t_mean.shape))
    decoded = system.decode(params, stats, jnp.asarray(t, jnp.float32))
    if name == "vae_mnist":
        x, p = (np.asarray(a, np.float64).reshape(4, -1) for a in (images, decoded))
        expected = -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=-1).mean()
        np.testing.assert_allclose(terms["bce"], expected, rtol=1e-5)
    else:
        h1, h2 = (features("mnist_classifier", a, ("relu1", "relu2")) for a in (images, decoded))
        expected = sum(((np.asarray(h1[tap]) - np.asarray(h2[tap])) ** 2).sum() / 4 for tap in h1)
        np.testing.assert_allclose(terms["feature"], expected, rtol=1e-4)


def test_frozen_weights_are_arguments_and_get_no_gradient(smoke):
    """The perceptual network's weights are not constants of the program and are not trained."""
    config = smoke("dfc_mnist")
    experiment = make_experiment(config, (28, 28, 1), labelled=False)
    frozen = experiment.system.frozen()
    state = jax.eval_shape(experiment.init)
    batch = {"image": jax.ShapeDtypeStruct((8, 28, 28, 1), jnp.uint8)}
    step = make_train_step(experiment.system, experiment.optimizers)
    text = jax.jit(step).lower(state, frozen, batch, jax.eval_shape(lambda: ROOT)).as_text()
    assert len(text) < 300_000 and max(map(len, text.splitlines())) < 10_000
    assert set(state.params) == {"vae"} and set(frozen) == {"backbone"}
