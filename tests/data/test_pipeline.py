"""Batches are a pure function of (seed, step), the same for any number of devices, in memory or streamed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from vae_jax.data.contract import Dataset, in_memory, take
from vae_jax.data.pipeline import Feed, TrainBatches, batch_indices, padded_indices
from vae_jax.errors import UserError
from vae_jax.runtime.sharding import gather_rows, make_mesh, memory_for_data, place_rows


def mesh_of(devices: int):
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


@pytest.fixture
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    return in_memory(rng.integers(0, 256, (50, 4, 6, 3)).astype(np.uint8), np.arange(50))


def test_every_epoch_shows_every_example_once():
    stream = np.concatenate([batch_indices(3, step, 8, 50) for step in range(25)])
    epochs = stream.reshape(4, 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(batch_indices(3, 0, 8, 50), batch_indices(4, 0, 8, 50))


def test_the_order_never_changes():
    """Philox's raw stream, which numpy guarantees: these are the indices of the first release."""
    np.testing.assert_array_equal(batch_indices(0, 0, 8, 1000), [998, 162, 670, 664, 185, 322, 431, 318])
    np.testing.assert_array_equal(batch_indices(1, 130, 8, 1000), [809, 443, 815, 401, 978, 122, 968, 868])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_batches_do_not_depend_on_devices_or_memory(dataset, devices, streamed):
    source = dataset._replace(arrays=None) if streamed else dataset
    batches = TrainBatches(source, seed=1, batch_size=8, mesh=mesh_of(devices))
    for step in (0, 3, 6, 40):  # 6 crosses an epoch, 40 is a jump as after a resume
        batch = batches(step, 3)
        expected = np.stack([batch_indices(1, step + i, 8, 50) for i in range(3)])
        np.testing.assert_array_equal(batch["label"], expected)
        np.testing.assert_array_equal(batch["image"], dataset.arrays["image"][expected])
        assert batch["image"].dtype == np.uint8
        assert len(batch["image"].sharding.device_set) == devices


@pytest.mark.parametrize("devices", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, jnp.bfloat16, np.float32])
def test_each_device_holds_its_share(devices, dtype):
    """Fifty rows on any number of devices, looked up in any order, bit-equal, and often; only zeros are added."""
    mesh = mesh_of(devices)
    rows = np.random.default_rng(0).normal(50, 20, (50, 3, 2)).astype(dtype)
    held = place_rows(rows, mesh)
    shares = [shard.data.shape[0] for shard in held.addressable_shards]
    assert shares == [-(-50 // devices)] * devices and not np.asarray(held)[50:].any()
    indices = np.random.default_rng(1).integers(0, 50, (2, 12))
    found = jax.jit(lambda held, indices: gather_rows(held, indices, mesh))({"row": held}, indices)["row"]
    np.testing.assert_array_equal(found, rows[indices])
    assert found.dtype == dtype and {shard.data.shape[1] for shard in found.addressable_shards} == {12 // devices}


def test_memory_is_counted_for_each_device(monkeypatch):
    assert memory_for_data(100) == 100  # four devices of one CPU share its memory
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert memory_for_data(100) == 400


def test_the_padding_of_the_last_batch_is_masked(dataset):
    indices, mask = padded_indices(50, 16)
    assert indices.shape == (4, 16) and mask.sum() == 50
    np.testing.assert_array_equal(indices[mask], np.arange(50))
    for source in (dataset, dataset._replace(arrays=None)):
        (batches,) = Feed(source, mesh_of(4))(lambda _: indices, 1)
        np.testing.assert_array_equal(batches["label"][mask], np.arange(50))


def test_slices_of_a_data_set(dataset):
    for source in (dataset, dataset._replace(arrays=None)):
        part = take(source, 10, 13)
        assert part.size == 3
        np.testing.assert_array_equal(part.read(np.arange(3))["label"], [10, 11, 12])


def test_batches_that_do_not_fit_are_errors(dataset):
    with pytest.raises(UserError, match="50 images, fewer than a batch of 64"):
        TrainBatches(dataset, 0, 64, mesh_of(1))
    with pytest.raises(UserError, match=r"multiple of the number of devices \(4\)"):
        make_mesh(6)
    with pytest.raises(UserError, match=r"multiple of the number of devices \(4\) times accumulate \(3\)"):
        make_mesh(8, accumulate=3)


def test_the_examples_that_are_shown():
    """One of each class; with one class or none, some from all over the set; none twice."""
    from vae_jax.reports.grids import example_indices

    np.testing.assert_array_equal(example_indices(np.arange(100) // 10, 100), np.arange(0, 100, 10))
    for labels in (None, np.zeros(600, int)):
        shown = example_indices(labels, 600)
        assert len(set(shown)) == 10 and shown[0] == 0 and shown[-1] == 599
    np.testing.assert_array_equal(example_indices(None, 4), np.arange(4))
    shown = example_indices(np.arange(40) % 2, 40)
    assert list(shown[:2]) == [0, 1] and len(set(shown)) == 10
