"""Options that save memory or time, remat and bfloat16, change results by rounding only."""

import jax
import numpy as np
import pytest
from helpers.checks import convolutions, equations
from helpers.noted_step import KEY, Step, assert_alike, config_of, images_of, step_of

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


@pytest.mark.skipif(FORGETS, reason="XLA merges what is computed again with what was")
def test_frozen_networks_are_not_recomputed(plain):
    """remat costs a forward pass of the trained networks, and none of the perceptual one."""
    again = step_of(config_of("vae", remat=True))

    def forward(params, images):
        return plain.experiment.system.decode(params, {}, plain.experiment.system.encode(params, {}, {}, images)[0])

    images = jax.eval_shape(to_float, plain.experiment.batch)["image"]
    once = jax.jit(forward).lower(plain.state.params, images).compile().cost_analysis()["flops"]
    np.testing.assert_allclose(again.flops - plain.flops, once, rtol=0.02)


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
