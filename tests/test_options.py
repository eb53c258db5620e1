"""Options that save memory or time, remat and bfloat16, change results by rounding only."""

import collections
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import convolutions, equations
from helpers.noted_step import KEY, Step, assert_alike, config_of, images_of, step_of

from vae_jax.state import flatten
from vae_jax.systems.contract import weight_at
from vae_jax.systems.vae import vae
from vae_jax.train_step import to_float

FORGETS = jax.__version_info__ < (0, 12)  # XLA for CPUs then drops barriers early and undoes checkpointing


@pytest.fixture(scope="module")
def plain() -> Step:
    """The step of a DFC-VAE without any of the options."""
    return step_of(config_of("vae"))


@pytest.mark.parametrize(
    ("system", "factor"),
    [
        ("vae", 0.8),
        ("vgg", 0.5),
        ("vae_gan", 0.6),
        pytest.param("deepsim", 0.5, marks=pytest.mark.slow),
        pytest.param("kl_autoencoder", 0.7, marks=pytest.mark.slow),
    ],
)
def test_remat(system, factor, plain):
    """Terms, gradients and running statistics are the same to 1e-6, and `factor` of the memory is enough.

    With concurrent backward passes the VAE-GAN needs 0.94 of it.
    """
    plain = plain if system == "vae" else step_of(config_of(system))
    again = step_of(config_of(system, remat=True))
    batch = {"image": images_of(*plain.experiment.batch["image"].shape[2:])}
    (expected,), (found,) = plain(batch), again(batch)
    assert_alike(found, expected, 1e-6)
    assert sum("trace" in name and np.any(value != 0) for name, value in expected.items()) >= 20
    assert again.bytes < factor * plain.bytes or FORGETS


def test_accumulate(monkeypatch, plain):
    """Four parts of a batch have the terms and gradients of the whole batch to 1e-5, for networks without BatchNorm
    and the same noise, and less of its memory. With their own noise they are another sample."""
    batch = {"image": images_of(28)}
    noisy = step_of(config_of("vae", accumulate=4))(batch)[0]
    monkeypatch.setattr(sys.modules[vae.__module__], "draw", lambda key, mean, logvar: mean + jnp.exp(logvar / 2) / 2)
    whole, parts = step_of(config_of("vae")), step_of(config_of("vae", accumulate=4))
    (expected,), (found,) = whole(batch), parts(batch)
    assert_alike(found, expected, 1e-5)
    assert sum("trace" in name and np.any(value != 0) for name, value in expected.items()) >= 20
    assert abs(noisy["0/feature"] / expected["0/feature"] - 1) > 1e-3
    assert parts.bytes < 0.5 * whole.bytes or FORGETS


def test_accumulated_players_and_statistics():
    """Of a VAE-GAN: terms and each player's gradient are the means of the parts', which are normalised one by one and
    move the running statistics one after another. Part i has every fourth image from the i-th on."""
    step = step_of(config_of("vae_gan", accumulate=4))
    system, state, images = step.experiment.system, step.state, images_of(32, 3)
    (found,) = step({"image": images})
    stats, terms, gradients = state.stats, [], []
    key = jax.random.fold_in(KEY, state.step)
    if step.experiment.augment is not None:
        key = jax.random.split(key)[0]
    for i, one in enumerate(jax.random.split(key, 4)):
        batch = to_float({"image": jnp.asarray(images[i::4])})
        values, pull_back, stats = jax.vjp(
            lambda params, stats=stats, batch=batch, one=one: system.terms(params, stats, {}, batch, one, state.step),
            state.params,
            has_aux=True,
        )
        terms.append(values)
        row = {term: jnp.float32(weight_at(weight, state.step)) for term, weight in system.rules["decoder"].items()}
        gradients.append(pull_back({term: row.get(term, jnp.zeros(())) for term in values})[0]["decoder"])
    for name in terms[0]:
        np.testing.assert_allclose(found[f"0/{name}"], np.mean([part[name] for part in terms]), rtol=2e-5, err_msg=name)
    for name, leaf in flatten(stats).items():
        np.testing.assert_allclose(found[f"1/stats/{name}"], leaf, rtol=1e-4, atol=1e-5, err_msg=name)
    mean = jax.tree.map(lambda *parts: sum(parts) / 4, *gradients)
    for name, leaf in flatten(mean).items():
        traced = found[f"1/opt_state/decoder/0/trace/{name}"]
        np.testing.assert_allclose(traced, leaf, rtol=0, atol=1e-4 * np.abs(leaf).max(), err_msg=name)


@pytest.mark.skipif(FORGETS, reason="XLA merges what is computed again with what was")
def test_frozen_networks_are_not_recomputed(plain):
    """remat costs a forward pass of the trained networks, and none of the perceptual one."""
    again = step_of(config_of("vae", remat=True))

    def forward(params, images):
        return plain.experiment.system.decode(params, {}, plain.experiment.system.encode(params, {}, {}, images)[0])

    images = jax.eval_shape(to_float, plain.experiment.batch)["image"]
    once = jax.jit(forward).lower(plain.state.params, images).compile().cost_analysis()["flops"]
    np.testing.assert_allclose(again.flops - plain.flops, once, rtol=0.02)


@pytest.mark.parametrize(
    ("system", "perceptual"),
    [
        ("vae", 4),
        ("vae_gan", 0),
        pytest.param("deepsim", 4, marks=pytest.mark.slow),
        pytest.param("kl_autoencoder", 6, marks=pytest.mark.slow),
    ],
)
def test_networks_in_bfloat16(system, perceptual, plain):
    """Terms match float32 to 1 %, each player's gradient to 7 % of its norm and running statistics to 0.1 %.

    What is trained, its gradients, statistics and sums over images stay in float32. The networks' convolutions are in
    bfloat16, but for the last layer of the decoder; those of the `perceptual` network have a dtype of their own.
    """
    plain = plain if system == "vae" else step_of(config_of(system))
    half = step_of(config_of(system, dtype="bfloat16"))
    batch = {"image": images_of(*plain.experiment.batch["image"].shape[2:])}
    (found,), (expected,) = half(batch), plain(batch)
    gradients = collections.defaultdict(list)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and np.isfinite(found[name]).all(), name
        if "trace" in name:
            gradients[name.split("/")[2]].append((np.linalg.norm(found[name] - value), np.linalg.norm(value)))
        elif name.count("/") == 1:  # a term
            np.testing.assert_allclose(found[name], value, rtol=1e-2, err_msg=name)
        elif "batch_stats" in name:
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-3 * np.abs(value).max(), err_msg=name)
    for player, norms in gradients.items():
        off, size = np.linalg.norm(norms, axis=0)
        assert 1e-4 * size < off < 0.07 * size, player

    def forward(params):
        return half.experiment.system.terms(params, half.state.stats, half.frozen, to_float(batch), KEY, 5)[0]

    program = jax.make_jaxpr(forward)(half.state.params).jaxpr
    dtypes = [str(e.outvars[0].aval.dtype) for e in convolutions(program)]
    assert dtypes.count("float32") == 1 + perceptual and dtypes.count("bfloat16") > 4
    assert {str(e.outvars[0].aval.dtype) for e in equations(program) if e.primitive.name == "reduce_sum"} == {"float32"}


def test_bfloat16(plain):
    """The feature term matches float32 to 0.2 %, gradients to 3 %; trained networks and sums stay in float32."""
    half = step_of(config_of("vae", backbone={"dtype": "bfloat16"}))
    batch = {"image": images_of(28)}
    (found,), (expected,) = half(batch), plain(batch)
    assert found["0/kl"] == expected["0/kl"]
    assert 1e-5 < abs(found["0/feature"] / expected["0/feature"] - 1) < 2e-3
    for name in (name for name in expected if "trace" in name):
        assert found[name].dtype == np.float32 and np.isfinite(found[name]).all()
        assert np.linalg.norm(found[name] - expected[name]) < 0.03 * np.linalg.norm(expected[name]), name

    def loss(params):
        return half.experiment.system.terms(params, {}, half.frozen, to_float(batch), KEY, 0)[0]["feature"]

    program = jax.make_jaxpr(jax.grad(loss))(half.state.params).jaxpr
    networks = [str(e.outvars[0].aval.dtype) for e in convolutions(program)]
    dense = [e for e in equations(program) if e.primitive.name == "dot_general" and e.outvars[0].aval.ndim == 2]
    sums = [e for e in equations(program) if e.primitive.name == "reduce_sum"]
    assert {str(e.outvars[0].aval.dtype) for e in (*dense, *sums)} == {"float32"}
    assert networks.count("bfloat16") == 2 * 2 + 2  # those before the taps of either image, and back through them
