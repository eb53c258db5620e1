"""Cached features give the same training as computed ones, up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.noted_step import BATCH, assert_alike, config_of, filled, images_of, step_of

from vae_jax.backbones import features
from vae_jax.config import image_shape
from vae_jax.configs import common
from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.pipeline import TrainBatches
from vae_jax.errors import UserError
from vae_jax.experiment import make_experiment
from vae_jax.runtime.sharding import make_mesh
from vae_jax.systems.image_terms import make_image_terms
from vae_jax.targets import cache_targets, expect_targets
from vae_jax.train_step import to_float


def data_of(size: int, count: int = 40) -> Dataset:
    return in_memory(images_of(size, count=count))


def test_cached_targets():
    """Three steps on batches of four devices: numbers are the same to 1e-6, and the targets' forward pass is saved."""
    plain = step_of(config_of("vae"))
    config, dataset = config_of("vae", backbone={"cache_targets": True}), data_of(28)
    cached = step_of(config, lambda experiment, frozen: expect_targets(config, experiment, frozen, dataset))
    mesh, said = make_mesh(BATCH), []
    batches = TrainBatches(dataset, 0, BATCH, mesh)
    held = cache_targets(cached.experiment, cached.frozen, batches.feed, dataset.size, mesh, said.append)
    taps = config.terms.feature.taps
    seen = features("mnist_classifier", jnp.asarray(dataset.arrays["image"], jnp.float32) / 255, taps)
    for tap in taps:
        leaf = held[f"feature/{tap}"]
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {10} and len(leaf.devices()) == 4
        np.testing.assert_allclose(leaf, seen[tap], rtol=0, atol=1e-6 * np.abs(seen[tap]).max())
    assert f"{sum(leaf.nbytes for leaf in seen.values()):,} bytes" in said[0]
    fewer = data_of(28, 37)  # four devices hold ten each, of which three are none
    odd = cache_targets(
        cached.experiment, cached.frozen, TrainBatches(fewer, 0, BATCH, mesh).feed, fewer.size, mesh, said.append
    )
    for tap in taps:
        np.testing.assert_allclose(odd[f"feature/{tap}"][:37], held[f"feature/{tap}"][:37], rtol=1e-6, atol=1e-6)

    batches.feed.hold(held)
    whole = [jax.device_get({name: leaf[0] for name, leaf in batches(step, 1).items()}) for step in range(3)]
    whole = [{name: batch[name] for name in cached.experiment.batch} for batch in whole]  # without labels
    found, expected = cached(*whole), plain(*({"image": batch["image"]} for batch in whole))
    for a, b in zip(found, expected, strict=True):
        assert_alike(a, b, 1e-6)

    images = jax.eval_shape(to_float, plain.experiment.batch)["image"]
    forward = jax.jit(plain.experiment.system.targets).lower(plain.frozen, images).compile()
    np.testing.assert_allclose(plain.flops - cached.flops, forward.cost_analysis()["flops"], rtol=0.02)


def test_cached_targets_of_lpips_and_in_bfloat16():
    """A term has the same value with cached features; the network's dtype loses nothing."""
    config = config_of("vae", image_size=32, backbone={"name": "alexnet", "weights": "random", "dtype": "bfloat16"})
    with config.unlocked():
        config.terms = {name: common.term(1.0) for name in ("kl", "lpips", "l1")}
        config.terms.lpips.net = "alex"
    terms = make_image_terms(config, own=("kl",))
    frozen, batch = filled(jax.eval_shape(terms.frozen)), to_float({"image": jnp.asarray(images_of(32, count=2))})
    recon = batch["image"][:, ::-1]
    targets = jax.jit(terms.targets)(frozen, batch["image"])
    assert list(targets) == [f"lpips/relu{i}" for i in range(1, 6)]
    assert {leaf.dtype for leaf in targets.values()} == {jnp.dtype("bfloat16")}
    values = jax.jit(terms.values)
    expected, found = values(frozen, batch, recon), values(frozen, batch | targets, recon)
    assert expected["lpips"].min() > 0.01
    for name in ("lpips", "l1"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
    other = values(frozen, batch | {name: leaf[::-1] for name, leaf in targets.items()}, recon)
    assert np.abs(other["lpips"] - expected["lpips"]).min() > 1e-4


@pytest.mark.parametrize(
    ("changes", "arrays", "words"),
    [
        ({"data": {"random_crop": 32}}, True, "random_crop or data.augment changes the images in every step"),
        ({}, False, "needs training images that fit in memory"),
        ({"data": {"memory_limit": 4_000_000}}, True,
         r"the features of 40 images need 4,700,160 bytes, .*of a host hold 4,000,000:\n"
         r"  feature/relu1 \(26, 26, 32\): 3,461,120 bytes\n  feature/relu2 \(11, 11, 64\): 1,239,040 bytes"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_cached(changes, arrays, words):
    config, dataset = config_of("vae", backbone={"cache_targets": True}, **changes), data_of(28)
    experiment = make_experiment(config, image_shape(config), labelled=False)
    with pytest.raises(UserError, match=f"backbone.cache_targets.*{words}"):
        dataset = dataset if arrays else dataset._replace(arrays=None)
        expect_targets(config, experiment, experiment.system.frozen(), dataset)


def test_nothing_to_cache():
    config = config_of("vae")
    with config.unlocked():
        config.terms = {"kl": common.term(1.0), "bce": common.term(1.0)}
    experiment = make_experiment(config, image_shape(config), labelled=False)
    with pytest.raises(UserError, match="no loss term uses a perceptual network"):
        expect_targets(config, experiment, {}, data_of(28))
