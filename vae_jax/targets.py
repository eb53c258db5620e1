"""Features of the training images by perceptual networks, computed once: `backbone.cache_targets`.

The features of every image are kept on the device that holds the image, in the networks' dtype, and are part of each
batch. A train step compares with them and runs the networks on its reconstructions only.
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset
from vae_jax.data.pipeline import Feed
from vae_jax.errors import UserError
from vae_jax.experiment import Experiment
from vae_jax.runtime.sharding import memory_for_data, split_rows
from vae_jax.train_step import to_float

KEY = "backbone.cache_targets"
SAY_EVERY = 10.0  # seconds


def expect_targets(config: ConfigDict, experiment: Experiment, frozen, dataset: Dataset) -> Experiment:
    """The experiment with cached features in its batch; UserError if they cannot be cached."""
    limit = memory_for_data(config.data.memory_limit)
    if experiment.augment is not None:
        raise UserError(
            f"{KEY}: data.random_crop or data.augment changes the images in every step, and so their features. "
            f"Turn it off, or {KEY}."
        )
    if dataset.arrays is None:
        raise UserError(
            f"{KEY} needs training images that fit in memory (data.memory_limit is {config.data.memory_limit:,} bytes)."
        )
    images = jax.eval_shape(to_float, experiment.batch)["image"]
    targets = jax.eval_shape(experiment.system.targets, frozen, images)
    if not targets:
        raise UserError(f"{KEY}: no loss term uses a perceptual network, as feature and lpips do.")
    needed = {name: dataset.size * np.prod(leaf.shape[1:]) * leaf.dtype.itemsize for name, leaf in targets.items()}
    total = sum(needed.values())
    if total > limit:
        lines = [f"  {name} {targets[name].shape[1:]}: {size:,} bytes\n" for name, size in needed.items()]
        raise UserError(
            f"{KEY}: the features of {dataset.size:,} images need {total:,} bytes, and data.memory_limit lets the "
            f"devices of a host hold {limit:,}:\n{''.join(lines)}"
            "Turn it off, choose deeper taps, halve the features by backbone.dtype=bfloat16, or raise the limit."
        )
    return experiment._replace(batch=experiment.batch | targets)


def cache_targets(
    experiment: Experiment, frozen, feed: Feed, size: int, mesh: Mesh, say: Callable[[str], None]
) -> dict[str, jax.Array]:
    """{name: features [N, ...]} of every image of the feed, in its order, split like the images.

    Batches are as large as in training, and each device sees the images that it holds; the last batch overlaps the one
    before.
    """
    part, share = experiment.batch["image"].shape[0] // mesh.size, -(-size // mesh.size)
    places, split = split_rows(mesh), PartitionSpec("data")
    expected = {name: leaf for name, leaf in experiment.batch.items() if name not in experiment.seen}

    def empty():
        shapes = {name: (share * mesh.size, *leaf.shape[1:]) for name, leaf in expected.items()}
        return {name: jnp.zeros(shapes[name], leaf.dtype) for name, leaf in expected.items()}

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(split, split, PartitionSpec()), out_specs=split)
    def update(held, seen, start):
        return {name: jax.lax.dynamic_update_slice_in_dim(held[name], seen[name], start, 0) for name in held}

    @functools.partial(jax.jit, donate_argnames=("held",), out_shardings=places)
    def look(held, frozen, batches, start):
        images = to_float({"image": batches["image"][0]})["image"]
        seen = experiment.system.targets(frozen, images)
        return update(held, {name: seen[name] for name in held}, start)

    held = jax.jit(empty, out_shardings=places)()
    say(f"caching the features of the training images, {sum(leaf.nbytes for leaf in held.values()):,} bytes")
    said = time.perf_counter()
    first = np.arange(mesh.size)[:, None] * share  # of each device
    starts = np.minimum(np.arange(0, share, part), share - part).astype(np.int32)

    def indices(i: int) -> np.ndarray:
        return np.minimum(first + starts[i] + np.arange(part), size - 1).astype(np.int32).reshape(1, -1)

    for start, batches in zip(starts, feed(indices, len(starts)), strict=True):
        held = look(held, frozen, batches, start)
        jax.block_until_ready(held)
        if time.perf_counter() - said > SAY_EVERY:
            say(f"  {min((start + part) * mesh.size, size):,} of {size:,} images")
            said = time.perf_counter()
    return held
