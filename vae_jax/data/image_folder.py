"""Any folder of images: DIR/train/... and DIR/test/..., at any depth, grey or colour, any size."""

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from ml_collections import ConfigDict

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import LISTING, Dataset, in_memory, one_hot
from vae_jax.data.crops import crop_of
from vae_jax.data.folders import is_hidden
from vae_jax.data.image_files import NAMED, image_files, no_images, read_image, tell
from vae_jax.data.images import to_uint8
from vae_jax.data.known_files import THREADS, TOLD_EVERY, marks_of
from vae_jax.data.known_files import unreadable as find_unreadable
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError, did_you_mean
from vae_jax.runtime.sharding import memory_for_data


def image_folder(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT, sorted by path; folders directly below SPLIT, if any, are the labels.

    Hidden and other files are left out and counted in `notes`, unreadable images are left out and listed there;
    UserError if these are more than the fraction `data.unreadable` of all, or if a folder cannot be read. A set larger
    than `memory_for_data` is streamed, but every file is read once before, at this start or, unless it has changed, at
    an earlier one (`known_files`), so that a broken one never stops a run.
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
    read_one = functools.partial(_read_one, folder, config)

    marks, images = marks_of(folder, files), {}
    if streamed:
        unreadable = find_unreadable(folder, files, marks, _how(config), lambda name: _reason(read_one(name)))
    else:
        found = dict(zip(files, _read_all(files, read_one), strict=True))
        unreadable = {name: image for name, image in found.items() if isinstance(image, str)}
        images = {name: image for name, image in found.items() if not isinstance(image, str)}
    _check_share(unreadable, len(files), folder, config.data.unreadable)
    good = [i for i, name in enumerate(files) if name not in unreadable]
    kept = [files[i] for i in good]
    notes = {"folder": str(folder), "files": len(files), "classes": classes, "unreadable": unreadable}
    notes |= {"left out": left_out, LISTING: _listing(kept, marks[good, 0], classes)}
    labels = _labels(kept, classes)
    names = () if labels is None else tuple(classes)
    if not streamed:
        images = np.stack([images[name] for name in kept])
        return in_memory(images, labels, notes, classes=names)._replace(grouped=labels is not None)

    pool = ThreadPoolExecutor(THREADS)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        rows = list(pool.map(lambda i: read_one(kept[i]), indices))
        for i, row in zip(indices, rows, strict=True):
            if isinstance(row, str):
                raise UserError(f"{folder / kept[i]} was readable when the run started, but no longer is: {row}")
        batch = {"image": np.stack(rows)}
        return batch if labels is None else {**batch, "label": labels[indices]}

    attributes = None if labels is None else functools.partial(one_hot, labels, names)
    return Dataset(len(kept), shape, read, None, notes, attributes, names, labels, grouped=labels is not None)


def _read_one(folder: Path, config: ConfigDict, name: str) -> np.ndarray | str:
    """uint8 of `stored_shape`, or why it cannot be read."""
    return read_image(folder / name, functools.partial(to_uint8, config=config))


def _reason(read: np.ndarray | str) -> str | None:
    return read if isinstance(read, str) else None


def _how(config: ConfigDict) -> str:
    """What decides whether a file can be read, beside the file."""
    return json.dumps([stored_shape(config), crop_of(config), config.data.resize, PIL.__version__])


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


def _listing(names: Sequence[str], sizes: np.ndarray, classes: Sequence[str]) -> str:
    """The SHA-256 of the names and sizes of the files and of the class names."""
    lines = [*classes, *(f"{name} {size}\n" for name, size in zip(names, sizes.tolist(), strict=True))]
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


def _read_all(names: Sequence[str], read_one: Callable[[str], np.ndarray | str]) -> Iterator[np.ndarray | str]:
    """Reads in threads, in order; prints progress for large sets."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done, image in enumerate(pool.map(read_one, names), 1):
            if done % TOLD_EVERY == 0 or (done == len(names) and done > TOLD_EVERY):
                print(f"read {done:,} of {len(names):,} images", file=sys.stderr)
            yield image


def _classes(config: ConfigDict, split: str, files: Sequence[str]) -> list[str]:
    """The folders of images in all splits in use, so that a label means the same in each."""
    root = Path(config.data.dir)
    others = {parse_split(used)[0] for used in (config.data.train, config.data.eval)} - {split}
    lists = [files, *(image_files(root / other).images for other in others if (root / other).is_dir())]
    return sorted({name.partition("/")[0] for names in lists for name in names if "/" in name})


def _labels(names: Sequence[str], classes: Sequence[str]) -> np.ndarray | None:
    """The index of each file's class folder; None if files lie outside class folders."""
    index = {name: i for i, name in enumerate(classes)}
    first = [name.partition("/")[0] for name in names]
    return np.array([index[name] for name in first], np.int32) if all("/" in name for name in names) else None
