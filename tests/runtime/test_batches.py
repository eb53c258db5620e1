"""Joining, parting and padding batches; and that no system makes devices exchange more than sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.bench.measure import random_images
from vae_jax.cli import load_config
from vae_jax.config import untrained
from vae_jax.plan.traffic import collectives
from vae_jax.runtime.batches import join_batches, pad_edges, part_batches
from vae_jax.runtime.sharding import make_mesh
from vae_jax.training import prepare

IMAGES = np.random.default_rng(0).random((4, 5, 3, 2), np.float32)


def test_batches_are_joined_example_by_example():
    kinds = [IMAGES, IMAGES + 1, IMAGES + 2]
    joined = join_batches(*kinds)
    np.testing.assert_array_equal(joined[:4], [IMAGES[0], IMAGES[0] + 1, IMAGES[0] + 2, IMAGES[1]])
    for part, kind in zip(part_batches(joined, 3), kinds, strict=True):
        np.testing.assert_array_equal(part, kind)


@pytest.mark.parametrize(("rows", "columns"), [((1, 1), (1, 1)), ((0, 2), (3, 0)), ((0, 0), (0, 0))])
def test_edges_are_repeated_as_numpy_does(rows, columns):
    def numpys(images):
        return jnp.pad(images, ((0, 0), rows, columns, (0, 0)), mode="edge")

    (ours, pull), (theirs, pull_theirs) = (
        jax.vjp(pad, IMAGES) for pad in (lambda images: pad_edges(images, rows, columns), numpys)
    )
    np.testing.assert_array_equal(ours, theirs)
    weights = np.random.default_rng(1).random(ours.shape, np.float32)
    np.testing.assert_allclose(*pull(weights), *pull_theirs(weights), rtol=1e-6)


TRANSFORMED = ("losses_celeba:watson", "blur_vae_mnist")
SMALL = ("vaegan_mnist", "losses_celeba:ssim", "deepsim_ae_stl10")
OTHERS = (
    "losses_celeba:watson", "losses_celeba:vae_gan", "losses_celeba:kl_autoencoder", "sr_vae_pets", "blur_vae_mnist",
    "deepsim_invert_alexnet", "kl_autoencoder", "exemplar_cnn",
)  # fmt: skip


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_devices_exchange_sums_and_no_images(name):
    if name in TRANSFORMED and jax.__version_info__ < (0, 12):
        pytest.skip("jax before 0.12 gathers what goes through a Fourier transform")
    config = untrained(load_config(f"{name}{',' if ':' in name else ':'}smoke"))
    config.update({"steps_per_call": 1, "batch_size": 8})
    program = prepare(config, random_images(config), make_mesh(8)).lower().compile().as_text()
    assert collectives(program).keys() == {"all-reduce"}
