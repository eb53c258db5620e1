"""Any folder of images: DIR/train/... and DIR/test/..., at any depth, grey or colour, any size."""

import functools
import hashlib
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import LISTING, Dataset, in_memory, one_hot
from vae_jax.data.folders import is_hidden
from vae_jax.data.image_files import NAMED, image_files, no_images, read_image, tell
from vae_jax.data.images import to_uint8
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError, did_you_mean
from vae_jax.runtime.sharding import memory_for_data

THREADS = 4


def image_folder(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT, sorted by path; folders directly below SPLIT, if any, are the labels.

    Hidden and other files are left out and counted in `notes`, unreadable images are left out and listed there;
    UserError if these are more than the fraction `data.unreadable` of all, or if a folder cannot be read. A set larger
    than `memory_for_data` is streamed, but every file is still read once at the start, so that a broken one
    never stops a run.
    """
    folder = _folder(config, split)
    files, left_out = image_files(folder)
    if not files:
        raise no_images(folder, left_out)
    if left_out:
        _print_once(f"{folder}: {tell(left_out)}")
    classes = _classes(config, split, files)
    shape = stored_shape(config)
    streamed = len(files) * int(np.prod(shape)) > memory_for_data(config.data.memory_limit)

    kept, images, unreadable = [], [], {}
    for path, image in zip(files, _read_all(files, config), strict=True):
        if isinstance(image, str):
            unreadable[str(path.relative_to(folder))] = image
            continue
        kept.append(path)
        if not streamed:
            images.append(image)
    _check_share(unreadable, len(files), folder, config.data.unreadable)
    notes = {"folder": str(folder), "files": len(files), "classes": classes, "unreadable": unreadable}
    notes |= {"left out": left_out, LISTING: _listing(kept, folder, classes)}
    labels = _labels(kept, folder, classes)
    names = () if labels is None else tuple(classes)
    if not streamed:
        return in_memory(np.stack(images), labels, notes, classes=names)._replace(grouped=labels is not None)

    pool = ThreadPoolExecutor(THREADS)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        rows = list(pool.map(lambda i: read_image(kept[i], functools.partial(to_uint8, config=config)), indices))
        for i, row in zip(indices, rows, strict=True):
            if isinstance(row, str):
                raise UserError(f"{kept[i]} was readable when the run started, but no longer is: {row}")
        batch = {"image": np.stack(rows)}
        return batch if labels is None else {**batch, "label": labels[indices]}

    attributes = None if labels is None else functools.partial(one_hot, labels, names)
    return Dataset(len(kept), shape, read, None, notes, attributes, names, labels, grouped=labels is not None)


def _check_share(unreadable: Mapping[str, str], files: int, folder: Path, limit: float) -> None:
    """Prints once what is left out; UserError if it is everything, or more than the fraction `limit`."""
    if not unreadable:
        return
    name, reason = next(iter(unreadable.items()))
    if len(unreadable) == files:
        raise UserError(f"None of the {files} images in {folder} can be read; the first, {name}: {reason}")
    if len(unreadable) > limit * files:
        lines = [f"  {name}: {reason}" for name, reason in list(unreadable.items())[:NAMED]]
        more = f"\n  and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        raise UserError(
            f"{len(unreadable)} of the {files} images in {folder} cannot be read, a larger fraction than "
            f"data.unreadable ({limit:g}):\n" + "\n".join(lines) + f"{more}\nFix or remove them, or raise the limit."
        )
    _print_once(f"{folder}: left out {len(unreadable)} of {files} files that cannot be read, see data_report.json: "
                f"{name}, {reason}{', ...' if len(unreadable) > 1 else ''}")  # fmt: skip


@functools.cache
def _print_once(line: str) -> None:
    """Prints a line once, even if two splits are slices of one folder."""
    print(line, flush=True)


def _listing(files: Sequence[Path], folder: Path, classes: Sequence[str]) -> str:
    """The SHA-256 of the names and sizes of the files and of the class names."""
    lines = [*classes, *(f"{path.relative_to(folder)} {path.stat().st_size}\n" for path in files)]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _folder(config: ConfigDict, split: str) -> Path:
    """The folder of a split; UserError if there is none."""
    if not config.data.dir:
        raise UserError("image_folder needs a folder: set --config.data.dir=DIR, with DIR/train and DIR/test in it.")
    root = Path(config.data.dir)
    if not root.is_dir():
        raise UserError(f"There is no folder {root} (data.dir).")
    folder = root / split
    if not folder.is_dir():
        there = [p.name for p in root.iterdir() if p.is_dir() and not is_hidden(p.name)]
        hint = did_you_mean(split, there) if there else "It has no folders at all."
        raise UserError(f"{root} (data.dir) has no folder {split!r}; expected {folder}/.../*.jpg or *.png. {hint}")
    return folder


def _read_all(files: Sequence[Path], config: ConfigDict):
    """Reads in threads, in order; prints progress for large sets."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done, image in enumerate(
            pool.map(lambda path: read_image(path, functools.partial(to_uint8, config=config)), files), 1
        ):
            if done % 5000 == 0 or (done == len(files) and done > 5000):
                print(f"read {done:,} of {len(files):,} images", file=sys.stderr)
            yield image


def _classes(config: ConfigDict, split: str, files: Sequence[Path]) -> list[str]:
    """The folders of images in all splits in use, so that a label means the same in each."""
    root = Path(config.data.dir)
    others = {parse_split(used)[0] for used in (config.data.train, config.data.eval)} - {split}
    images = {root / other: image_files(root / other).images for other in others if (root / other).is_dir()}
    images[root / split] = [*files]
    parts = [path.relative_to(folder).parts for folder, paths in images.items() for path in paths]
    return sorted({first for first, *below in parts if below})


def _labels(files: Sequence[Path], folder: Path, classes: Sequence[str]) -> np.ndarray | None:
    """The index of each file's class folder; None if files lie outside class folders."""
    index = {name: i for i, name in enumerate(classes)}
    first = [path.relative_to(folder).parts[0] for path in files]
    return np.array([index[name] for name in first], np.int32) if all(name in index for name in first) else None
