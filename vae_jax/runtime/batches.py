"""Array operations that leave a batch split over the devices: no example has to travel to another one."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def join_batches(*batches: jax.Array) -> jax.Array:
    """k batches [B, ...] as one [k * B, ...]: the first example of each, then the second of each.

    One batch behind the other, every device would hold other examples than before.
    """
    return jnp.stack(batches, axis=1).reshape(-1, *batches[0].shape[1:])


def part_batches(batch: jax.Array, kinds: int) -> list[jax.Array]:
    """The `kinds` batches that `join_batches` made one."""
    parts = batch.reshape(-1, kinds, *batch.shape[1:])
    return [parts[:, kind] for kind in range(kinds)]


def pad_edges(images: jax.Array, rows: Sequence[int], columns: Sequence[int]) -> jax.Array:
    """[B, H, W, C] with its edges repeated: `rows` above and below, `columns` on the left and on the right.

    `jnp.pad` does it to the batch as well, zero times, and devices exchange the images at its ends.
    """
    for axis, (before, after) in ((1, rows), (2, columns)):
        first = jax.lax.slice_in_dim(images, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(images, -1, None, axis=axis)
        images = jnp.concatenate([*[first] * before, images, *[last] * after], axis)
    return images
