"""What a data set is: examples that can be read by index, in memory or not."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError

LISTING = "sha256 of names and sizes"  # what identifies a set by its files


class Reading(NamedTuple):
    """How images that are not in memory are read: in `threads` of this process (0: one for each core), or of each of
    `workers` processes (0: one)."""

    threads: int = 0
    workers: int = 0


class Attributes(NamedTuple):
    """Attributes of each example: column a of `values` [N, A] bool says where `names[a]` holds."""

    names: tuple[str, ...]
    values: np.ndarray


class FileList(NamedTuple):
    """Names of files in order, and for each a number that its content changes, such as its size, [N] int64."""

    names: Sequence[str]
    sizes: np.ndarray


class Unreadable(UserError):
    """An image that could be read when it was looked at first."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name} can no longer be read: {reason}")
        self.name, self.reason = name, reason


class Dataset(NamedTuple):
    """Examples 0 .. size - 1 in a fixed order.

    read: (indices [n]) -> {'image': uint8 [n, H, W, C], 'label': int32 [n] (if the data has labels)}.
    arrays: the whole set as those arrays if it is in memory, else None.
    notes: what a user should know about it, such as {'unreadable': {...}}.
    attributes: () -> those of all examples, read on demand and never part of a batch; None if the data has neither
      attributes nor labels.
    classes: the names of the labels 0, 1, ..., where the source has names; else ().
    labels: those of all examples, int32 [N], where they are known without reading the images; else None.
    grouped: whether the examples lie in the order of their labels, so that slices take of every label alike.
    places: int [N], where the examples are in the whole split; None: this is the whole.
    files: those of the whole, if the examples are files.
    unreadable: bool [N], those that `read` raises Unreadable for, until `membership.members` has left them out.
    attempt: indices -> what `read` returns, and {name: reason} of images that others stand in for; None: `read` is all.
    tell: reports such names; UserError if they are too many.
    reading: how they are read ahead if they are not in memory; `read` itself reads one after the other.
    """

    size: int
    image_shape: tuple[int, int, int]
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    arrays: Mapping[str, np.ndarray] | None = None
    notes: Mapping[str, object] = {}
    attributes: Callable[[], Attributes] | None = None
    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    grouped: bool = False
    places: np.ndarray | None = None
    files: FileList | None = None
    unreadable: np.ndarray | None = None
    attempt: Callable[[np.ndarray], tuple[dict[str, np.ndarray], dict[str, str]]] | None = None
    tell: Callable[[Mapping[str, str]], None] | None = None
    reading: Reading = Reading()


def one_hot(labels: np.ndarray, classes: Sequence[str] = ()) -> Attributes:
    """One attribute per class of the labels [N], named by its number if the classes have no names."""
    names = tuple(classes) or tuple(map(str, range(labels.max(initial=-1) + 1)))
    return Attributes(names, labels[:, None] == np.arange(len(names)))


def in_memory(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    notes: Mapping[str, object] | None = None,
    attributes: Callable[[], Attributes] | None = None,
    classes: tuple[str, ...] = (),
) -> Dataset:
    """A Dataset of uint8 images [N, H, W, C] and integer labels [N]; its attributes are its classes by default."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [N, H, W, C], not {images.dtype} {images.shape}")
    arrays, notes = {"image": images}, notes or {}
    if labels is not None:
        arrays["label"] = labels = labels.astype(np.int32)
        attributes = attributes or functools.partial(one_hot, labels, classes)
    read = functools.partial(_rows, arrays)
    return Dataset(len(images), images.shape[1:], read, arrays, notes, attributes, classes, labels)


def _rows(arrays: Mapping[str, np.ndarray], indices: np.ndarray) -> dict[str, np.ndarray]:
    return {key: array[indices] for key, array in arrays.items()}


def fingerprint(dataset: Dataset) -> dict[str, object]:
    """What identifies a data set: its size and the SHA-256 of sixteen of its images, if none of them was lost.

    Also that of all labels, where they are known, and in memory that of all images; else that of the names and sizes of
    its files, if any.
    """
    found: dict[str, object] = {"images": dataset.size}
    some = np.linspace(0, dataset.size - 1, 16).astype(int)
    examples, lost = dataset.attempt(some) if dataset.attempt else (dataset.read(some), {})
    if not lost:
        found["sha256"] = hashlib.sha256(examples["image"].tobytes()).hexdigest()
    if dataset.arrays is not None:
        buffers = {key: np.ascontiguousarray(array).data for key, array in dataset.arrays.items()}
        return found | {f"sha256 of all {key}s": hashlib.sha256(data).hexdigest() for key, data in buffers.items()}
    if dataset.labels is not None:
        found["sha256 of all labels"] = hashlib.sha256(np.ascontiguousarray(dataset.labels).data).hexdigest()
    if dataset.files is not None:
        folders = dataset.notes["classes"]  # which `classes` does not have where files without a label lie beside them
        assert isinstance(folders, list)
        found[LISTING] = _sum(dataset.files, folders)
    return found


def _sum(files: FileList, classes: Sequence[str]) -> str:
    """The SHA-256 of the names and sizes of the files and of the class names."""
    lines = [*classes, *(f"{name} {size}\n" for name, size in zip(files.names, files.sizes.tolist(), strict=True))]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def with_labels_below(dataset: Dataset, classes: int, name: str) -> Dataset:
    """The data set `name` with labels from 0 to classes - 1; UserError for others, if need be when they are read."""

    def check(labels: np.ndarray) -> None:
        low, high = labels.min(initial=0), labels.max(initial=0)
        if low < 0 or high >= classes:
            raise UserError(f"{name} has labels from {low} to {high}; expected 0 to {classes - 1}.")

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        batch = dataset.read(indices)
        check(batch.get("label", np.zeros(0)))
        return batch

    if dataset.labels is not None:
        check(dataset.labels)
        return dataset
    check(np.arange(len(dataset.classes)))
    return dataset._replace(read=read)


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of a label, or its number if the classes have no names."""
    return classes[label] if classes else str(label)


def with_classes(dataset: Dataset, classes: Sequence[str], name: str) -> Dataset:
    """The data set `name` with labels that count `classes`, found by their names; UserError for a class not in them."""
    if not classes or not dataset.classes or dataset.classes == tuple(classes):
        return dataset
    index = {known: i for i, known in enumerate(classes)}
    present = range(len(dataset.classes)) if dataset.labels is None else np.unique(dataset.labels)
    if unknown := [dataset.classes[i] for i in present if dataset.classes[i] not in index]:
        raise UserError(
            f"{name} has classes that the run was not trained with: {listed(unknown)}.\n"
            f"  its classes: {listed(dataset.classes)}\n  those of the training: {listed(classes)}\n"
            "Remove or rename those folders."
        )
    new = np.array([index.get(own, -1) for own in dataset.classes], np.int32)

    def renumber(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**arrays, "label": new[arrays["label"]]}

    named = dataset._replace(classes=tuple(classes), read=lambda indices: renumber(dataset.read(indices)))
    if dataset.labels is not None:
        named = named._replace(labels=new[dataset.labels])
    if dataset.arrays is not None:
        arrays = renumber(dataset.arrays)
        named = named._replace(arrays=arrays, read=functools.partial(_rows, arrays))
    return named


def listed(names: Sequence[str], most: int = 20) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def first_of_each_class(dataset: Dataset, count: int) -> Dataset:
    """The first `count` examples of each label, in their order; UserError if a label has fewer."""
    labels = dataset.labels
    if labels is None:
        raise UserError("data.per_class needs data with labels that fit in memory (data.memory_limit).")
    classes = np.unique(labels)
    chosen = [np.flatnonzero(labels == label)[:count] for label in classes]
    for label, indices in zip(classes, chosen, strict=True):
        if len(indices) < count:
            raise UserError(f"data.per_class is {count}, but there are only {len(indices)} examples of label {label}.")
    return subset(dataset, np.sort(np.concatenate(chosen)))


def take(dataset: Dataset, start: int, stop: int) -> Dataset:
    """The examples from `start` up to `stop`.

    If they are grouped by label, these are places in `interleaved` order: 'train[:80%]' has 80 % of every label, and
    slices that do not overlap share no example.
    """
    if (start, stop) == (0, dataset.size):
        return dataset
    if dataset.grouped and dataset.labels is not None:
        return subset(dataset, np.sort(interleaved(dataset.labels)[start:stop]))
    return subset(dataset, slice(start, stop))


def interleaved(labels: np.ndarray) -> np.ndarray:
    """An order of the examples in which any stretch has the labels [N] in about their proportions; each label keeps its
    own order."""
    progress = np.empty(len(labels))
    for label in np.unique(labels):
        its = np.flatnonzero(labels == label)
        progress[its] = (np.arange(len(its)) + 0.5) / len(its)
    return np.argsort(progress, kind="stable")


def places(dataset: Dataset) -> np.ndarray:
    """Where the examples are in the whole split."""
    return np.arange(dataset.size) if dataset.places is None else dataset.places


def central_window(dataset: Dataset, size: int) -> Dataset:
    """The same examples, cropped to the central window [size, size]; of two, the one nearer to the upper left."""
    height, width, channels = dataset.image_shape
    if (height, width) == (size, size):
        return dataset
    top, left = (height - size) // 2, (width - size) // 2

    def cut(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        window = arrays["image"][:, top : top + size, left : left + size]
        return {**arrays, "image": np.ascontiguousarray(window)}

    cropped = dataset._replace(image_shape=(size, size, channels))
    if dataset.arrays is not None:
        arrays = cut(dataset.arrays)
        return cropped._replace(arrays=arrays, read=functools.partial(_rows, arrays))
    return cropped._replace(read=lambda indices: cut(dataset.read(indices)))


def subset(dataset: Dataset, chosen: slice | np.ndarray) -> Dataset:
    """The examples with these indices, in this order."""
    indices = np.arange(dataset.size)[chosen]
    part = dataset._replace(size=len(indices), grouped=False, places=places(dataset)[chosen])
    if dataset.labels is not None:
        part = part._replace(labels=dataset.labels[chosen])
    if dataset.attributes is not None:
        part = part._replace(attributes=functools.partial(_subset_attributes, dataset.attributes, chosen))
    if dataset.arrays is not None:
        arrays = {key: array[chosen] for key, array in dataset.arrays.items()}
        return part._replace(arrays=arrays, read=functools.partial(_rows, arrays))
    return part._replace(read=lambda i: dataset.read(indices[i]))


def _subset_attributes(whole: Callable[[], Attributes], chosen: slice | np.ndarray) -> Attributes:
    names, values = whole()
    return Attributes(names, values[chosen])
