"""What a data set is: examples that can be read by index, in memory or not."""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Examples 0 .. size - 1 in a fixed order.

    read: (indices [n]) -> {'image': uint8 [n, H, W, C], 'label': int32 [n] (where the data has labels)}.
    arrays: the whole set as those arrays where it is in memory, else None.
    notes: what a user should know of it, such as {'unreadable files': [...]}.
    """

    size: int
    image_shape: tuple[int, int, int]
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    arrays: Mapping[str, np.ndarray] | None = None
    notes: Mapping[str, object] = {}


def in_memory(images: np.ndarray, labels: np.ndarray | None = None, notes: Mapping[str, object] | None = None):
    """A Dataset of uint8 images [N, H, W, C] and integer labels [N]."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [N, H, W, C], not {images.dtype} {images.shape}")
    arrays = {"image": images}
    if labels is not None:
        arrays["label"] = labels.astype(np.int32)
    return Dataset(len(images), images.shape[1:], lambda i: {k: v[i] for k, v in arrays.items()}, arrays, notes or {})


def fingerprint(dataset: Dataset) -> dict[str, object]:
    """What tells a data set from another: its size and a sum of sixteen of its images."""
    examples = dataset.read(np.linspace(0, dataset.size - 1, 16).astype(int))
    return {"images": dataset.size, "sha256": hashlib.sha256(examples["image"].tobytes()).hexdigest()}


def take(dataset: Dataset, start: int, stop: int) -> Dataset:
    """The examples from `start` up to `stop`."""
    if (start, stop) == (0, dataset.size):
        return dataset
    if dataset.arrays is not None:
        arrays = {k: v[start:stop] for k, v in dataset.arrays.items()}
        return in_memory(arrays["image"], arrays.get("label"), dataset.notes)
    return dataset._replace(size=max(stop - start, 0), read=lambda i: dataset.read(np.asarray(i) + start))
