"""Any folder of images: DIR/train/... and DIR/test/..., at any depth, grey or colour, any size."""

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import LISTING, Dataset, in_memory, one_hot
from vae_jax.data.images import to_uint8
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError, did_you_mean

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
THREADS = 4
NAMED = 10  # unreadable files that an error lists


def read_image(path: Path, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray | str:
    """What `convert` makes of the file, or the reason why it cannot be read."""
    if path.exists() and not path.is_file():
        return "not a file"  # perhaps a pipe, which would block
    try:
        with Image.open(path) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                return f"{image.width}x{image.height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}"
            return convert(image)
    except UserError as error:
        return str(error)
    except Exception as error:  # on broken files decoders raise anything; the file is reported, the run continues
        return f"{type(error).__name__}: {error}"


def image_folder(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT, sorted by path; folders directly below SPLIT, if any, are the labels.

    Unreadable files are left out and listed in `notes`; UserError if they are more than the fraction `data.unreadable`
    of all. A set larger than `data.memory_limit` bytes is streamed, but every file is still read once at the start, so
    that a broken one never stops a run.
    """
    folder, files = _files(config, split)
    classes = _classes(folder.parent, {split, *(parse_split(s)[0] for s in (config.data.train, config.data.eval))})
    shape = stored_shape(config)
    streamed = len(files) * int(np.prod(shape)) > config.data.memory_limit

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
    notes[LISTING] = _listing(kept, folder, classes)
    labels = _labels(kept, folder, classes)
    attributes = None if labels is None else functools.partial(one_hot, labels, classes)
    if not streamed:
        return in_memory(np.stack(images), labels, notes, attributes)

    pool = ThreadPoolExecutor(THREADS)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        rows = list(pool.map(lambda i: read_image(kept[i], functools.partial(to_uint8, config=config)), indices))
        for i, row in zip(indices, rows, strict=True):
            if isinstance(row, str):
                raise UserError(f"{kept[i]} was readable when the run started, but no longer is: {row}")
        batch = {"image": np.stack(rows)}
        return batch if labels is None else {**batch, "label": labels[indices]}

    return Dataset(len(kept), shape, read, None, notes, attributes)


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


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path."""
    return sorted(Path(at) / name for at, _, names in os.walk(folder, followlinks=True) for name in names)


def _files(config: ConfigDict, split: str) -> tuple[Path, list[Path]]:
    if not config.data.dir:
        raise UserError("image_folder needs a folder: set --config.data.dir=DIR, with DIR/train and DIR/test in it.")
    root = Path(config.data.dir)
    if not root.is_dir():
        raise UserError(f"There is no folder {root} (data.dir).")
    folder = root / split
    if not folder.is_dir():
        there = [p.name for p in root.iterdir() if p.is_dir()]
        hint = did_you_mean(split, there) if there else "It has no folders at all."
        raise UserError(f"{root} (data.dir) has no folder {split!r}; expected {folder}/.../*.jpg or *.png. {hint}")
    files = [path for path in files_below(folder) if path.suffix.lower() in EXTENSIONS]
    if not files:
        raise UserError(f"No images in {folder}: expected files ending in {', '.join(sorted(EXTENSIONS))}.")
    return folder, files


def _read_all(files: Sequence[Path], config: ConfigDict):
    """Reads in threads, in order; prints progress for large sets."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done, image in enumerate(
            pool.map(lambda path: read_image(path, functools.partial(to_uint8, config=config)), files), 1
        ):
            if done % 5000 == 0 or (done == len(files) and done > 5000):
                print(f"read {done:,} of {len(files):,} images", file=sys.stderr)
            yield image


def _classes(root: Path, splits: Iterable[str]) -> list[str]:
    """The class folders of all splits in use, so that a label means the same in each."""
    return sorted(
        {p.name for split in splits if (root / split).is_dir() for p in (root / split).iterdir() if p.is_dir()}
    )


def _labels(files: Sequence[Path], folder: Path, classes: Sequence[str]) -> np.ndarray | None:
    """The index of each file's class folder; None if files lie outside class folders."""
    index = {name: i for i, name in enumerate(classes)}
    first = [path.relative_to(folder).parts[0] for path in files]
    return np.array([index[name] for name in first], np.int32) if all(name in index for name in first) else None
