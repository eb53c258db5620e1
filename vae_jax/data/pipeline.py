"""From a data set to batches on the devices. A batch is a pure function of (seed, step)."""

import functools
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh

from vae_jax.data.contract import Dataset
from vae_jax.errors import UserError
from vae_jax.runtime.sharding import gather_rows, place_rows, split_batches


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """A shuffle of 0 .. size - 1, in the order of Philox's raw stream, which numpy never changes."""
    keys = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    return np.argsort(keys, kind="stable").astype(np.int32)


def batch_indices(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """The examples [batch_size] of one step: shuffled epochs end to end, so that no example is left out."""
    positions = step * batch_size + np.arange(batch_size)
    epochs, places = positions // size, positions % size
    return np.concatenate([_permutation(seed, int(e), size)[places[epochs == e]] for e in np.unique(epochs)])


def padded_indices(size: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every example once, in order, as batches [n, batch_size], and a mask that is False for padding."""
    batches = -(-size // batch_size)
    positions = np.arange(batches * batch_size).reshape(batches, batch_size)
    return np.minimum(positions, size - 1).astype(np.int32), positions < size


class Feed:
    """Puts batches on the devices: indices [K, B] -> {'image': uint8 [K, B, H, W, C], ...}, B split over the mesh.

    A set in memory lies on the devices, each with its share, and a batch is gathered from them. Of any other set, each
    process reads the examples it needs.
    """

    def __init__(self, dataset: Dataset, mesh: Mesh):
        self._read = dataset.read
        self._sharding = split_batches(mesh)
        self._arrays: dict[str, jax.Array] | None = None
        if dataset.arrays is not None:
            self._arrays = {name: place_rows(array, mesh) for name, array in dataset.arrays.items()}
            self._gather = jax.jit(lambda arrays, indices: gather_rows(arrays, indices, mesh))

    def __call__(self, indices: np.ndarray) -> dict[str, jax.Array]:
        if self._arrays is not None:
            return self._gather(self._arrays, self._place(indices))
        mine = self._sharding.addressable_devices_indices_map(indices.shape)
        needed = np.unique(np.concatenate([indices[index].ravel() for index in mine.values()]))
        rows = self._read(needed)

        def shard(array, index):
            return array[np.searchsorted(needed, indices[index[:2]])]

        return {
            key: jax.make_array_from_callback(
                indices.shape + array.shape[1:], self._sharding, functools.partial(shard, array)
            )
            for key, array in rows.items()
        }

    def hold(self, arrays: Mapping[str, jax.Array]) -> None:
        """Adds arrays [N, ...], split as `place_rows` does, to the batches of a set in memory."""
        assert self._arrays is not None
        self._arrays.update(arrays)

    def _place(self, array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, self._sharding, lambda index: array[index])


class TrainBatches:
    """Training batches by step; a set that is not in memory is read one call ahead in a thread."""

    def __init__(self, dataset: Dataset, seed: int, batch_size: int, mesh: Mesh):
        if dataset.size < batch_size:
            raise UserError(f"The training set has {dataset.size} images, fewer than a batch of {batch_size}.")
        self.feed = Feed(dataset, mesh)
        self._indices = functools.partial(batch_indices, seed, batch_size=batch_size, size=dataset.size)
        self._pool = ThreadPoolExecutor(1) if dataset.arrays is None else None
        self._ahead: dict[tuple[int, int], Future] = {}

    def __call__(self, step: int, count: int) -> dict[str, jax.Array]:
        """The batches [count, B, ...] of the steps `step` to `step + count - 1`."""
        if self._pool is None:
            return self._make(step, count)
        future = self._ahead.pop((step, count), None) or self._pool.submit(self._make, step, count)
        self._ahead = {(step + count, count): self._pool.submit(self._make, step + count, count)}
        return future.result()

    def _make(self, step: int, count: int) -> dict[str, jax.Array]:
        return self.feed(np.stack([self._indices(step + i) for i in range(count)]))
