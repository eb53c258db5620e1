"""Any folder of images: DIR/train/... and DIR/test/..., at any depth, grey or colour, any size."""

import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.images import to_uint8
from vae_jax.errors import UserError, nearest

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
THREADS = 4


def read_image(path: Path, config: ConfigDict) -> np.ndarray | str:
    """The file as uint8 [image_size, image_size, C], or in words why it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_uint8(image, config)
    except UserError as error:
        return str(error)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return f"{type(error).__name__}: {error}"


def image_folder(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT in the order of their paths; folders right below SPLIT, if any, are the labels.

    Files that cannot be read are left out and named in `notes`. A set over `data.memory_limit` bytes is streamed:
    every file is still read once at the start, so that a broken one never stops a run.
    """
    folder, files = _files(config, split)
    classes = sorted({p.name for s in folder.parent.iterdir() if s.is_dir() for p in s.iterdir() if p.is_dir()})
    shape = (config.image_size, config.image_size, 1 if config.data.grey else 3)
    streamed = len(files) * int(np.prod(shape)) > config.data.memory_limit

    kept, images, unreadable = [], [], {}
    for path, image in zip(files, _read_all(files, config), strict=True):
        if isinstance(image, str):
            unreadable[str(path.relative_to(folder))] = image
            continue
        kept.append(path)
        if not streamed:
            images.append(image)
    if not kept:
        first = next(iter(unreadable.items()))
        raise UserError(f"None of the {len(files)} images in {folder} can be read; the first, {first[0]}: {first[1]}")
    if unreadable:
        print(f"{folder}: left out {len(unreadable)} of {len(files)} files that cannot be read, see data_report.json")

    notes = {"folder": str(folder), "files": len(files), "classes": classes, "unreadable": unreadable}
    labels = _labels(kept, folder, classes)
    if not streamed:
        return in_memory(np.stack(images), labels, notes)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        rows = [read_image(kept[i], config) for i in indices]
        for i, row in zip(indices, rows, strict=True):
            if isinstance(row, str):
                raise UserError(f"{kept[i]} could be read when the run began and cannot be any more: {row}")
        batch = {"image": np.stack(rows)}
        return batch if labels is None else {**batch, "label": labels[indices]}

    return Dataset(len(kept), shape, read, None, notes)


def _files(config: ConfigDict, split: str) -> tuple[Path, list[Path]]:
    if not config.data.dir:
        raise UserError("image_folder needs a folder: --config.data.dir=DIR with the images in DIR/train and DIR/test.")
    root = Path(config.data.dir)
    if not root.is_dir():
        raise UserError(f"There is no folder {root} (data.dir).")
    folder = root / split
    if not folder.is_dir():
        there = [p.name for p in root.iterdir() if p.is_dir()]
        hint = nearest(split, there) if there else "It has no folders at all."
        raise UserError(f"{root} (data.dir) has no folder {split!r}; expected {folder}/.../*.jpg or *.png. {hint}")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
    if not files:
        raise UserError(f"No images in {folder}: expected files that end in {', '.join(sorted(EXTENSIONS))}.")
    return folder, files


def _read_all(files: Sequence[Path], config: ConfigDict):
    """Reads in threads, in order, with a line of progress where it takes long."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done, image in enumerate(pool.map(lambda path: read_image(path, config), files), 1):
            if done % 5000 == 0 or (done == len(files) and done > 5000):
                print(f"read {done:,} of {len(files):,} images", file=sys.stderr)
            yield image


def _labels(files: Sequence[Path], folder: Path, classes: Sequence[str]) -> np.ndarray | None:
    """Index of the class folder of each file; None where files lie outside class folders."""
    index = {name: i for i, name in enumerate(classes)}
    first = [path.relative_to(folder).parts[0] for path in files]
    return np.array([index[name] for name in first], np.int32) if all(name in index for name in first) else None
