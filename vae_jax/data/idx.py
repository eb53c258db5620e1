"""MNIST's own file format, IDX, plain or gzip."""

import gzip
import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.images import fit_arrays
from vae_jax.data.stored import Stored, stored_arrays
from vae_jax.data.tfds_source import stored_tfds, tfds_source
from vae_jax.errors import UserError

PREFIXES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> np.ndarray:
    """A file of unsigned bytes with 1 to 4 dimensions: two zero bytes, type 8, rank, big-endian sizes, data."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): it is damaged or truncated. Download it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise UserError(f"{path} is not an IDX file of unsigned bytes: it begins with {data[:4].hex() or 'nothing'}.")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise UserError(f"{path} is truncated: it ends inside its header. Download it again.")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    expected = start + int(np.prod(shape))
    if len(data) != expected:
        raise UserError(
            f"{path} is truncated or damaged: {len(data):,} bytes, expected {expected:,}. Download it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _find(folder: Path, prefix: str, kind: str) -> Path:
    names = [f"{prefix}-{kind}-ubyte", f"{prefix}-{kind.replace('-idx', '.idx')}-ubyte"]
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise UserError(f"{folder} has IDX files, but neither {names[0]} nor {names[0]}.gz: is the set complete?")


def idx_or_tfds(config: ConfigDict, split: str) -> Dataset:
    """`mnist` and `fashion_mnist`: from the IDX files in `data.dir` if there are any, else tensorflow-datasets."""
    if not _has_idx(config.data.dir):
        return tfds_source(config, split)
    images, labels = _idx(config.data.name, Path(config.data.dir), split)
    return in_memory(fit_arrays(images, config), labels)


def stored_idx_or_tfds(name: str, folder: str, split: str, others: Collection[str]) -> Stored:
    """The same as they are stored."""
    if not _has_idx(folder):
        return stored_tfds(name, folder, split, others)
    return stored_arrays(*_idx(name, Path(folder), split))


def _has_idx(folder: str) -> bool:
    return bool(folder) and Path(folder).is_dir() and any("-ubyte" in name for name in os.listdir(folder))


def _idx(name: str, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, h, w, 1], labels [N])."""
    if split not in PREFIXES:
        raise UserError(f"{name} has no split {split!r}; it has {', '.join(PREFIXES)} and slices of them.")
    images = read_idx(_find(folder, PREFIXES[split], "images-idx3"))
    labels = read_idx(_find(folder, PREFIXES[split], "labels-idx1"))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(f"{folder}: images {images.shape} and labels {labels.shape} of {split} do not match.")
    return images[..., None], labels
