"""What a data set is: examples that can be read by index, in memory or not."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError

LISTING = "sha256 of names and sizes"  # the note that identifies a set by its files


class Attributes(NamedTuple):
    """Attributes of each example: column a of `values` [N, A] bool says where `names[a]` holds."""

    names: tuple[str, ...]
    values: np.ndarray


class Dataset(NamedTuple):
    """Examples 0 .. size - 1 in a fixed order.

    read: (indices [n]) -> {'image': uint8 [n, H, W, C], 'label': int32 [n] (if the data has labels)}.
    arrays: the whole set as those arrays if it is in memory, else None.
    notes: what a user should know about it, such as {'unreadable': {...}}.
    attributes: () -> those of all examples, read on demand and never part of a batch; None if the data has neither
      attributes nor labels.
    """

    size: int
    image_shape: tuple[int, int, int]
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    arrays: Mapping[str, np.ndarray] | None = None
    notes: Mapping[str, object] = {}
    attributes: Callable[[], Attributes] | None = None


def one_hot(labels: np.ndarray, classes: Sequence[str] = ()) -> Attributes:
    """One attribute per class of the labels [N], named by its number if the classes have no names."""
    names = tuple(classes) or tuple(map(str, range(labels.max(initial=-1) + 1)))
    return Attributes(names, labels[:, None] == np.arange(len(names)))


def in_memory(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    notes: Mapping[str, object] | None = None,
    attributes: Callable[[], Attributes] | None = None,
) -> Dataset:
    """A Dataset of uint8 images [N, H, W, C] and integer labels [N]; its attributes are its classes by default."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [N, H, W, C], not {images.dtype} {images.shape}")
    arrays = {"image": images}
    if labels is not None:
        arrays["label"] = labels.astype(np.int32)
        attributes = attributes or functools.partial(one_hot, arrays["label"])

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {key: array[indices] for key, array in arrays.items()}

    return Dataset(len(images), images.shape[1:], read, arrays, notes or {}, attributes)


def fingerprint(dataset: Dataset) -> dict[str, object]:
    """What identifies a data set: its size and the SHA-256 of sixteen of its images.

    In memory, also that of all images and of all labels; else that of the names and sizes of its files, if any.
    """
    examples = dataset.read(np.linspace(0, dataset.size - 1, 16).astype(int))
    sha256 = hashlib.sha256(examples["image"].tobytes()).hexdigest()
    found: dict[str, object] = {"images": dataset.size, "sha256": sha256}
    if dataset.arrays is not None:
        buffers = {key: np.ascontiguousarray(array).data for key, array in dataset.arrays.items()}
        return found | {f"sha256 of all {key}s": hashlib.sha256(data).hexdigest() for key, data in buffers.items()}
    return found | {key: value for key, value in dataset.notes.items() if key == LISTING}


def first_of_each_class(dataset: Dataset, count: int) -> Dataset:
    """The first `count` examples of each label, in their order; UserError if a label has fewer."""
    if dataset.arrays is None or "label" not in dataset.arrays:
        raise UserError("data.per_class needs data with labels that fit in memory (data.memory_limit).")
    labels = dataset.arrays["label"]
    classes = np.unique(labels)
    chosen = [np.flatnonzero(labels == label)[:count] for label in classes]
    for label, indices in zip(classes, chosen, strict=True):
        if len(indices) < count:
            raise UserError(f"data.per_class is {count}, but there are only {len(indices)} examples of label {label}.")
    return _subset(dataset, np.sort(np.concatenate(chosen)))


def take(dataset: Dataset, start: int, stop: int) -> Dataset:
    """The examples from `start` up to `stop`."""
    return dataset if (start, stop) == (0, dataset.size) else _subset(dataset, slice(start, stop))


def central_window(dataset: Dataset, size: int) -> Dataset:
    """The same examples, cropped to the central window [size, size]; of two, the one nearer to the upper left."""
    height, width, channels = dataset.image_shape
    if (height, width) == (size, size):
        return dataset
    top, left = (height - size) // 2, (width - size) // 2

    def cut(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        window = arrays["image"][:, top : top + size, left : left + size]
        return {**arrays, "image": np.ascontiguousarray(window)}

    if dataset.arrays is not None:
        arrays = cut(dataset.arrays)
        return in_memory(arrays["image"], arrays.get("label"), dataset.notes, dataset.attributes)
    return dataset._replace(image_shape=(size, size, channels), read=lambda indices: cut(dataset.read(indices)))


def _subset(dataset: Dataset, chosen: slice | np.ndarray) -> Dataset:
    """The examples with these indices, in this order."""
    own = functools.partial(_subset_attributes, dataset.attributes, chosen) if dataset.attributes else None
    if dataset.arrays is not None:
        arrays = {key: array[chosen] for key, array in dataset.arrays.items()}
        return in_memory(arrays["image"], arrays.get("label"), dataset.notes, own)
    indices = np.arange(dataset.size)[chosen]
    return dataset._replace(size=len(indices), read=lambda i: dataset.read(indices[i]), attributes=own)


def _subset_attributes(whole: Callable[[], Attributes], chosen: slice | np.ndarray) -> Attributes:
    names, values = whole()
    return Attributes(names, values[chosen])
