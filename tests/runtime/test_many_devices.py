"""The same training on one and two devices: the same batches, the same losses as long as rounding is small, and then no
further apart than two trainings that began apart by the last bit."""

import re
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from vae_jax.cli import load_config
from vae_jax.data import load_dataset
from vae_jax.training import Training, prepare

STEPS, EQUAL = 30, 10
LAST_BIT = 1e-7  # of float32, relative


def prepared(devices: int, **changes) -> Training:
    config = load_config("dfc_mnist:smoke")
    config.update({"steps": STEPS, "steps_per_call": 1, "batch_size": 16, **changes})
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    return prepare(config, load_dataset(config, config.data.train, augmented=True), mesh)


class Run(NamedTuple):
    """The images of every step, [STEPS, B, H, W, C], the losses [STEPS], and all parameters after them."""

    images: np.ndarray
    losses: np.ndarray
    params: np.ndarray


def run(devices: int, nudge: float = 0.0, **changes) -> Run:
    """A training; `nudge` is the relative change of each weight before the first step, up or down."""
    training = prepared(devices, **changes)
    frozen, key, call = training.place_frozen(), training.step_key(), training.lower().compile()
    state, rng = training.first_state(), np.random.default_rng(0)

    def nudged(leaf: jax.Array) -> jax.Array:
        factors = 1 + nudge * rng.choice((-1.0, 1.0), leaf.shape)
        return jax.device_put((np.asarray(leaf) * factors).astype(np.float32), leaf.sharding)

    state, images, losses = state._replace(params=jax.tree.map(nudged, state.params)), [], []
    for step in range(STEPS):
        batches = training.batches(step, 1)
        images.append(np.asarray(batches["image"][0]))
        state, scalars = call(state, frozen, batches, key)
        losses.append(float(scalars["feature"][0] + scalars["kl"][0]))
    params = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(state.params)]
    return Run(np.stack(images), np.array(losses), np.concatenate(params))


def distance(a: Run, b: Run) -> float:
    return float(np.linalg.norm(a.params - b.params) / np.linalg.norm(a.params))


def test_the_same_training_on_two_devices():
    one, two, nudged = run(1), run(2), run(1, LAST_BIT)
    np.testing.assert_array_equal(two.images, one.images)
    np.testing.assert_allclose(two.losses[:EQUAL], one.losses[:EQUAL], rtol=1e-5)
    assert 0 < distance(one, two) < 10 * distance(one, nudged)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_gradients_are_summed_and_nothing_else_travels(accumulate):
    """At most once for each part of the batch; its images and activations stay where they are."""
    text = prepared(2, accumulate=accumulate).lower().compile().as_text()
    found = re.findall(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text)
    assert set(found) == {"all-reduce"} and len(found) <= accumulate


def test_a_split_state_trains_the_same():
    """Parameters and moments lie in parts on the devices; the losses are those of whole ones to 1e-5."""
    whole, parts = run(4), run(4, shard_state=True)
    np.testing.assert_array_equal(parts.images, whole.images)
    np.testing.assert_allclose(parts.losses[:EQUAL], whole.losses[:EQUAL], rtol=1e-5)
    training = prepared(4, shard_state=True)
    call = training.lower().compile()
    after, _ = call(training.first_state(), training.place_frozen(), training.batches(0, 1), training.step_key())
    for found in (training.first_state(), after):
        kernel = found.params["vae"]["decoder"]["dense"]["kernel"]  # [5, 12544]
        assert kernel.sharding.spec == PartitionSpec(None, "data")
        assert {shard.data.shape for shard in kernel.addressable_shards} == {(5, 12544 // 4)}
        assert found.opt_state["vae"][0].nu["decoder"]["dense"]["kernel"].sharding == kernel.sharding
        assert found.params["vae"]["decoder"]["dense"]["bias"].sharding.spec == PartitionSpec("data")
        assert found.step.sharding.is_fully_replicated
    plain = prepared(4).lower().compile().memory_analysis()
    assert call.memory_analysis().argument_size_in_bytes < 0.5 * plain.argument_size_in_bytes
