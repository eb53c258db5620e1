"""From a data set to batches on the devices. A batch is a pure function of (seed, step)."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from vae_jax.data.contract import Dataset
from vae_jax.data.reading import read_ahead
from vae_jax.errors import UserError
from vae_jax.runtime.ahead import ahead
from vae_jax.runtime.sharding import gather_rows, place_rows, split_batches

CALLS = 2**31  # without an end
AHEAD = 2  # calls whose batches are on the devices before they are asked for


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
    process reads the examples it needs, ahead of time.
    """

    def __init__(self, dataset: Dataset, mesh: Mesh):
        self._dataset = dataset
        self._sharding = split_batches(mesh)
        self._arrays: dict[str, jax.Array] | None = None
        if dataset.arrays is not None:
            self._arrays = {name: place_rows(array, mesh) for name, array in dataset.arrays.items()}
            self._gather = jax.jit(lambda arrays, indices: gather_rows(arrays, indices, mesh))

    def __call__(self, indices: Callable[[int], np.ndarray], calls: int) -> Iterator[dict[str, jax.Array]]:
        """The batches of the calls 0 to calls - 1, with indices(call) [K, B] of one shape."""
        if self._arrays is not None:
            return (self._gather(self._arrays, self._place(indices(call))) for call in range(calls))
        return ahead(
            self._read(indices, calls), AHEAD, f"images of {self._dataset.notes.get('folder', 'the data set')}"
        )

    def _read(self, indices: Callable[[int], np.ndarray], calls: int) -> Generator[dict[str, jax.Array], None, None]:
        steps, batch_size = indices(0).shape
        mine = self._sharding.addressable_devices_indices_map((steps, batch_size)).values()
        columns = np.unique(np.concatenate([np.arange(batch_size)[index[1]] for index in mine if index]))

        def shard(array, index):
            return array[:, np.searchsorted(columns, np.arange(batch_size)[index[1]])]

        with contextlib.closing(
            read_ahead(self._dataset, lambda call: indices(call)[:, columns].ravel(), calls)
        ) as reading:
            for rows in reading:
                yield {
                    key: jax.make_array_from_callback(
                        (steps, batch_size, *array.shape[1:]),
                        self._sharding,
                        functools.partial(shard, array.reshape(steps, len(columns), *array.shape[1:])),
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
    """Training batches by step."""

    def __init__(self, dataset: Dataset, seed: int, batch_size: int, mesh: Mesh):
        if dataset.size < batch_size:
            raise UserError(f"The training set has {dataset.size} images, fewer than a batch of {batch_size}.")
        self.feed = Feed(dataset, mesh)
        self._indices = functools.partial(batch_indices, seed, batch_size=batch_size, size=dataset.size)
        self._next: tuple[int, int] | None = None
        self._batches: Iterator[dict[str, jax.Array]] = iter(())

    def __call__(self, step: int, count: int) -> dict[str, jax.Array]:
        """The batches [count, B, ...] of the steps `step` to `step + count - 1`."""
        if self._next != (step, count):
            of_step = self._indices

            def indices(call: int) -> np.ndarray:
                return np.stack([of_step(step + call * count + i) for i in range(count)])

            self._batches = self.feed(indices, CALLS)
        self._next = step + count, count
        return next(self._batches)

    def close(self) -> None:
        """Ends what reads ahead, until the next call."""
        self._next, self._batches = None, iter(())
