"""Arrays in files: DIR/train.npy and DIR/test.npy, or .npz with labels."""

import functools
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset, in_memory, one_hot
from vae_jax.data.images import fit_array, fit_arrays
from vae_jax.data.stored import Stored, stored_arrays
from vae_jax.errors import UserError
from vae_jax.runtime.sharding import memory_for_data

IMAGES, LABELS = ("image", "images"), ("label", "labels")  # what the arrays of a .npz are called


def array_files(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT.npy, [N, H, W] or [N, H, W, 1 or 3], uint8 or floats in [0, 1], which are read in 8 bits.

    A .npz has such an array called `images` and may have `labels` [N]. A .npy larger than `memory_for_data` is read
    from disk while training. UserError for what is no such file.
    """
    file, images, labels = _arrays(config.data.dir, split)
    shape, notes = stored_shape(config), {"folder": str(file)}
    if len(images) * int(np.prod(shape)) <= memory_for_data(config.data.memory_limit):
        return in_memory(fit_arrays(_eight_bits(file, images), config), labels, notes)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        batch = {"image": np.stack([fit_array(image, config) for image in _eight_bits(file, images[indices])])}
        return batch if labels is None else {**batch, "label": labels[indices]}

    attributes = None if labels is None else lambda: one_hot(labels)
    return Dataset(len(images), shape, read, None, notes, attributes, labels=labels)


def stored_array_files(folder: str, split: str, others: Collection[str]) -> Stored:
    """The same as they are stored, but in 8 bits."""
    file, images, labels = _arrays(folder, split)
    return stored_arrays(images, labels, convert=functools.partial(_eight_bits, file))


def _arrays(folder: str, split: str) -> tuple[Path, np.ndarray, np.ndarray | None]:
    """(the file, its images [N, H, W, C], its labels [N])."""
    file = _file(folder, split)
    arrays = _load(file)
    images, labels = _images(file, arrays), _labels(file, arrays)
    if labels is not None and len(labels) != len(images):
        raise UserError(f"{file} has {len(images):,} images, but {len(labels):,} labels.")
    return file, images, labels


def _file(folder: str, split: str) -> Path:
    if not folder:
        raise UserError("array_files needs a folder: set --config.data.dir=DIR, with DIR/train.npy and DIR/test.npy.")
    files = [Path(folder, f"{split}{suffix}") for suffix in (".npy", ".npz")]
    for file in files:
        if file.is_file():
            return file
    raise UserError(f"There is neither {files[0]} nor {files[1]} (data.dir, data.train, data.eval).")


def _load(file: Path) -> Mapping[str, np.ndarray]:
    try:
        if file.suffix == ".npy":
            return {"images": np.lib.format.open_memmap(file, mode="r")}
        with zipfile.ZipFile(file), open(file, "rb") as opened, np.load(opened) as arrays:
            return dict(arrays)
    except Exception as error:  # on broken files the libraries raise anything
        raise UserError(f"{file} cannot be read: {error}") from None


def _images(file: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    named = [arrays[name] for name in IMAGES if name in arrays]
    if len(named) != 1:
        raise UserError(f"{file} has the arrays {', '.join(arrays) or 'none'}; expected one called 'images'.")
    (images,) = named
    images = images[..., None] if images.ndim == 3 else images
    of_pixels = images.ndim == 4 and 0 not in images.shape[1:] and images.shape[3] in (1, 3)
    if not of_pixels or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise UserError(
            f"{file} has images of {images.dtype} {list(images.shape)}; expected uint8, or floats in [0, 1], "
            "[N, H, W] or [N, H, W, 1 or 3]."
        )
    return images


def _labels(file: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    for name in LABELS:
        if name in arrays:
            labels = arrays[name]
            if labels.ndim != 1 or labels.dtype.kind not in "ui":
                raise UserError(f"{file} has labels of {labels.dtype} {list(labels.shape)}; expected integers [N].")
            if labels.min(initial=0) < 0 or labels.max(initial=0) >= 2**31:
                raise UserError(
                    f"{file} has labels from {labels.min()} to {labels.max()}; expected 0 to 2,147,483,647."
                )
            return labels.astype(np.int32)
    return None


def _eight_bits(file: Path, images: np.ndarray) -> np.ndarray:
    """uint8; UserError for floats out of [0, 1], which are never cut off in silence."""
    if images.dtype == np.uint8:
        return np.asarray(images)
    low, high = images.min(initial=0), images.max(initial=0)
    if not (low >= 0 and high <= 1):
        raise UserError(f"{file} has values in [{low:g}, {high:g}]; expected floats in [0, 1], or uint8.")
    return np.round(images.astype(np.float32) * 255).astype(np.uint8)
