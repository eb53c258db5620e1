"""The Keras peer of the benchmark does the work of our train step; see test_peers.py for PyTorch's."""

import json
import subprocess
import sys

import numpy as np
import optax
import pytest
from helpers.checks import ROOT
from helpers.one_step import LATENTS, SHAPES, config_of, our_networks, our_step

from vae_jax.optim import make_optimizer


@pytest.fixture(scope="module")
def keras_steps():
    """The module, which imports TensorFlow."""
    from tests.peers import keras_steps

    return keras_steps


def test_kerass_step_is_ours(keras_steps):
    """In float32: terms to 1e-5, gradients to 1e-4 of the largest entry in their network."""
    import keras

    ours = our_step("dfc_mnist", "float32")
    networks = keras_steps.make_networks(SHAPES["dfc_mnist"], LATENTS)
    before, after = (our_networks("dfc_mnist", state, ours.frozen) for state in (ours.before, ours.after))
    for network, leaves in before.items():
        for layer in {path.partition("/")[0] for path in leaves}:
            networks[network].get_layer(layer).set_weights([leaves[f"{layer}/kernel"], leaves[f"{layer}/bias"]])
        assert networks[network].count_params() == sum(leaf.size for leaf in leaves.values())
    terms = keras_steps.make_step(networks, keras.optimizers.SGD(1.0))(ours.images, ours.noise)
    for term, value in terms.items():
        np.testing.assert_allclose(value, ours.scalars[term], rtol=1e-5, err_msg=term)
    for network, leaves in after.items():
        largest = max(np.abs(leaf - before[network][path]).max() for path, leaf in leaves.items())
        assert (largest > 1e-4) == (network != "backbone"), network
        for path, leaf in leaves.items():
            layer, _, kind = path.partition("/")
            theirs = getattr(networks[network].get_layer(layer), kind).numpy()
            np.testing.assert_allclose(theirs, leaf, rtol=1e-6, atol=1e-4 * largest, err_msg=f"{network}/{path}")


def test_kerass_optimizer_is_ours(keras_steps):
    """Three steps with gradients far above eps, which Keras 3 adds elsewhere: parameters equal to 1e-6."""
    import keras

    config, rng = config_of("dfc_mnist"), np.random.default_rng(1)
    config.optimizers.vae.update(schedule="constant", warmup_steps=0)
    ours, theirs = make_optimizer(config.optimizers.vae, config.steps), keras_steps.make_optimizer()
    params = rng.normal(size=9).astype("float32")
    variable, opt_state = keras.Variable(params), ours.init(params)
    for _ in range(3):
        gradient = rng.choice([-1, 1], 9) * rng.uniform(0.1, 10, 9).astype("float32")
        theirs.apply([gradient], [variable])
        updates, opt_state = ours.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(variable.numpy(), params, rtol=0, atol=1e-6)


def test_the_program_answers():
    command = [sys.executable, "-m", "tests.peers.keras_peer", "--system=dfc_mnist", "--batch_size=2"]
    answers = subprocess.run(command, input="1\n2\n", cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said, *seconds = map(json.loads, answers.splitlines())
    assert said["framework"] == "keras" and said["layout"] == "channels_last"
    assert len(seconds) == 2 and min(seconds) > 0
