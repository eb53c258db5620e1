"""The error of a reconstruction, relative to the mean distance between the judged images."""

import functools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data.contract import Dataset
from vae_jax.errors import UserError
from vae_jax.losses.checks import equal_shapes
from vae_jax.metrics.perceptual import FrozenMetric

PANEL = 2**29  # values held at a time, in the type they are read in; a larger set is read more than once
BLOCK = 2**23  # values held as float64 for one matrix product
SECONDS = 10.0  # between two lines of progress

Read = Callable[[int, int], np.ndarray]  # (start, stop) -> the rows between, [stop - start, d]


def mean_distance(rows: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs of different rows of [n, d], n at least 2, of any numeric type.

    Exact up to float64 rounding; works in blocks, so that memory does not grow with n.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"mean_distance takes at least two rows [n, d], not {rows.shape}")
    return _mean_over_pairs(lambda start, stop: rows[start:stop], *rows.shape)


def _mean_over_pairs(read: Read, size: int, width: int) -> float:
    total, done, pairs, said = 0.0, 0, size * (size - 1) // 2, time.monotonic()
    for a, b in _block_pairs(read, size, width):
        if a is b:
            distances = _distances(a, a)
            np.fill_diagonal(distances, 0)
            total += distances.sum() / 2
            done += len(a) * (len(a) - 1) // 2
        else:
            total += _distances(a, b).sum()
            done += len(a) * len(b)
        if time.monotonic() - said > SECONDS and done < pairs:
            print(f"measured the distances of {done:,} of {pairs:,} pairs of images", flush=True)
            said = time.monotonic()
    return float(total / pairs)


def _block_pairs(read: Read, size: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of blocks of rows, float64: any two rows meet in exactly one pair, those of one block in (block, block)."""
    panel = max(1, PANEL // width)
    block = min(panel, max(1, BLOCK // max(width, 4096)))
    centre = read(0, min(block, size)).mean(axis=0, dtype=np.float64)  # keeps distances, reduces rounding
    for start in range(0, size, panel):
        rows = read(start, min(start + panel, size))
        for other_start in range(start, size, panel):
            others = rows if other_start == start else read(other_start, min(other_start + panel, size))
            for i in range(0, len(rows), block):
                a = rows[i : i + block] - centre
                for j in range(i if others is rows else 0, len(others), block):
                    yield a, a if others is rows and i == j else others[j : j + block] - centre


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances [m, n] between the rows of a [m, d] and of b [n, d]."""
    squares = [np.einsum("ij,ij->i", rows, rows) for rows in (a, b)]
    return np.sqrt(np.maximum(squares[0][:, None] + squares[1] - 2 * (a @ b.T), 0))


@functools.lru_cache(maxsize=1)  # a comparison judges one model after the other on the same images
def _distance_of_images(read: Callable, size: int, image_shape: tuple[int, int, int]) -> float:
    """`mean_distance` of a data set's images in [0, 1], which are stored as uint8 or floats."""

    def rows(start: int, stop: int) -> np.ndarray:
        return read(np.arange(start, stop))["image"].reshape(stop - start, -1)

    distance = _mean_over_pairs(rows, size, int(np.prod(image_shape)))
    return distance / 255 if read(np.arange(1))["image"].dtype == np.uint8 else distance


def _load(dataset: Dataset) -> np.float32:
    if dataset.size < 2:
        raise UserError(
            "normalised_error needs at least two images, not one: it is relative to the mean distance between "
            "different images. Judge more images, or leave it out of the metrics."
        )
    distance = _distance_of_images(dataset.read, dataset.size, dataset.image_shape)
    if not distance:
        raise UserError(
            f"normalised_error is relative to the mean distance between different images, but all {dataset.size:,} "
            "are the same. Judge images that differ, or leave it out of the metrics."
        )
    return np.float32(distance)


def _apply(target: jax.Array, recon: jax.Array, distance: np.float32) -> jax.Array:
    """100 ||target - recon||_2 / N in percent, [B], of images [B, H, W, C] in [0, 1]; N is the `distance`.

    N is the mean Euclidean distance over all pairs of different images of the judged data set: 0 is equal, 100 as far
    off as another image on average. Source: Dosovitskiy and Brox, "Generating images with perceptual similarity
    metrics based on deep networks", 2016, tables 3 and 8, in percent.
    """
    equal_shapes("normalised_error", target, recon)
    error = jnp.sqrt(jnp.sum((target - recon) ** 2, axis=(1, 2, 3)))
    return 100 * error / distance


normalised_error = FrozenMetric((), 1, _load, _apply)
