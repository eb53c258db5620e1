"""One mesh over all devices of all processes: batches and data in memory are split over it, and with `shard_state` the
state; everything else is replicated."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vae_jax.errors import UserError

SMALL = 2**12  # numbers in an array that is not worth splitting


def check_devices() -> None:
    """UserError unless jax has the devices that JAX_PLATFORMS asks for: without NVIDIA GPUs it would skip `cuda`."""
    wanted = jax.config.values["jax_platforms"] or ""
    first, problem = wanted.partition(",")[0], ""
    try:
        if jax.default_backend() == "cpu" and first == "cuda":
            problem = "there is no NVIDIA GPU here that it can see"
    except (RuntimeError, AssertionError) as error:  # the second one, without a word, if it has skipped all
        problem = str(error).partition(" (")[0].rstrip(".") or "there is no device of that kind here"
    if problem:
        raise UserError(
            f"jax cannot use the devices of JAX_PLATFORMS={wanted}: {problem}. Install the jax of your platform, such "
            "as 'jax[cuda12]', and its drivers; or unset JAX_PLATFORMS to run on what there is."
        )


def make_mesh(batch_size: int | None = None, accumulate: int = 1) -> Mesh:
    """A mesh of all devices along the axis `data`; UserError unless they can split a batch, if given, or each of the
    `accumulate` parts that it is taken in, evenly."""
    check_devices()
    devices = jax.device_count()
    if batch_size is not None:
        check_split(batch_size, devices, accumulate)
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


def check_split(batch_size: int, devices: int, accumulate: int) -> None:
    """UserError unless so many devices can split each of the `accumulate` parts of a batch evenly."""
    if batch_size % (devices * accumulate):
        times = f" times accumulate ({accumulate})" if accumulate > 1 else ""
        raise UserError(
            f"batch_size is {batch_size}; it must be a multiple of the number of devices ({devices}){times}."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batches(mesh: Mesh) -> NamedSharding:
    """[K, B, ...] with B split over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def split_rows(mesh: Mesh) -> NamedSharding:
    """[N, ...] with N split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place_rows(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """An array [N, ...] that every process has, split over the devices, each with the same number of rows: as many
    zeros follow the last one as it takes."""
    share = -(-len(array) // mesh.size)

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(share * mesh.size)
        rows = array[start:stop]
        missing = np.zeros((stop - start - len(rows), *array.shape[1:]), array.dtype)
        return np.concatenate([rows, missing]) if len(missing) else rows

    return jax.make_array_from_callback((share * mesh.size, *array.shape[1:]), split_rows(mesh), part)


def gather_rows(arrays: Any, indices: jax.Array, mesh: Mesh) -> Any:
    """The rows [K, B] of arrays [N, ...] that `place_rows` has split, as [K, B, ...] with B split over the devices.

    Each device looks up what it holds, and the sum over the devices, of which all but one give zero, is split; one of
    the K batches after the other, as each device has the whole of it for a moment.
    """

    def rows(part: jax.Array, wanted: jax.Array) -> jax.Array:
        here = wanted - jax.lax.axis_index("data") * len(part)
        found = part[jnp.clip(here, 0, len(part) - 1)]
        mine = ((here >= 0) & (here < len(part))).reshape(here.shape + (1,) * (part.ndim - 1))
        found = jnp.where(mine, found, jnp.zeros((), part.dtype))
        return jax.lax.psum_scatter(found, "data", tiled=True)

    def lookup(arrays: Any, indices: jax.Array) -> Any:
        return jax.lax.map(lambda wanted: jax.tree.map(lambda part: rows(part, wanted), arrays), indices)

    if mesh.size == 1:
        return jax.tree.map(lambda array: array[indices], arrays)

    places = (PartitionSpec("data"), PartitionSpec())
    return jax.shard_map(lookup, mesh=mesh, in_specs=places, out_specs=PartitionSpec(None, "data"))(arrays, indices)


def memory_for_data(limit: int) -> int:
    """The bytes of a set that is held in memory, if each device of a host may hold `limit`.

    Every host keeps the whole set as well, so that further hosts add nothing; the devices of a CPU share its memory.
    """
    return limit * (1 if jax.default_backend() == "cpu" else jax.local_device_count())


def split_state(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    """An array of the state with its largest axis that the devices divide split over them; a small one replicated."""
    axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
    if math.prod(shape) < SMALL or not axes:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*(None,) * largest, "data"))


def gather(tree: Any, mesh: Mesh) -> Any:
    """A tree of arrays on the devices, each of them whole on every device."""
    return jax.device_put(tree, replicated(mesh))


def on_host(tree: Any) -> Any:
    """A tree of arrays, which may be split over the devices of all processes, as NumPy arrays in all of them.

    All processes must call it.
    """

    def whole(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(whole, tree) if jax.process_count() > 1 else jax.device_get(tree)


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Places a tree of arrays that every process has on the devices of all processes.

    With several processes, `jax.device_put` would first send all arrays to all processes to compare them;
    `processes.check_same_everywhere` compares digests instead.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    arrays = jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda a: jax.make_array_from_callback(a.shape, sharding, lambda i: a[i]), arrays)
