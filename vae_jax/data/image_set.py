"""Images in files of any kind: read, left out where they are broken, held in memory or streamed."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL
from ml_collections import ConfigDict

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset, FileList, Unreadable, in_memory, one_hot
from vae_jax.data.crops import crop_of
from vae_jax.data.image_files import NAMED, no_images, read_image, tell
from vae_jax.data.images import to_uint8
from vae_jax.data.known_files import THREADS, tell_progress
from vae_jax.data.known_files import unreadable as find_unreadable
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError
from vae_jax.runtime.sharding import memory_for_data
from vae_jax.strict_json import to_json


class Images(NamedTuple):
    """Files that are images by their names.

    place: the folder or archive they are in. names: theirs, in order. marks: [N, 2] int64, what identifies a file, such
      as its size, and when it was changed. left_out: as `image_files` has it. open: a name -> its path or content.
      labels: a number for each, if they have one. classes: the names of these numbers, if they have names.
    """

    place: Path
    names: Sequence[str]
    marks: np.ndarray
    left_out: dict[str, dict[str, Any]]
    open: Callable[[str], Path | BinaryIO]
    labels: np.ndarray | None
    classes: Sequence[str]


def image_set(config: ConfigDict, images: Images) -> Dataset:
    """Unreadable images are left out and listed in `notes`; UserError if these are more than the fraction
    `data.unreadable` of all.

    A set larger than `memory_for_data` is streamed, but every file is read once before, at this start or, unless it
    has changed, at an earlier one (`known_files`), so that a broken one never stops a run.
    """
    place, names = images.place, images.names
    if not names:
        raise no_images(place, images.left_out)
    if images.left_out:
        _print_once(f"{place}: {tell(images.left_out)}")
    shape = stored_shape(config)
    streamed = len(names) * int(np.prod(shape)) > memory_for_data(config.data.memory_limit)
    read_one = functools.partial(_read_one, images, config)

    pixels = {}
    if streamed:
        unreadable = find_unreadable(place, names, images.marks, _how(config), lambda name: _reason(read_one(name)))
    else:
        found = dict(zip(names, _read_all(names, read_one), strict=True))
        unreadable = {name: image for name, image in found.items() if isinstance(image, str)}
        pixels = {name: image for name, image in found.items() if not isinstance(image, str)}
    _check_share(unreadable, len(names), place, config.data.unreadable)
    bad, sizes, labels = np.array([name in unreadable for name in names]), images.marks[:, 0], images.labels
    notes = {"folder": str(place), "files": len(names), "classes": list(images.classes), "unreadable": unreadable}
    notes |= {"left out": images.left_out}
    classes = () if labels is None else tuple(images.classes)
    if not streamed:
        stacked = np.stack([*pixels.values()])
        dataset = in_memory(stacked, None if labels is None else labels[~bad], notes, classes=classes)
        return dataset._replace(grouped=labels is not None, files=FileList([*pixels], sizes[~bad]))

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        some = [names[int(i)] for i in indices]
        rows = [read_one(name) for name in some]
        for name, row in zip(some, rows, strict=True):
            if isinstance(row, str):
                raise Unreadable(str(place / name), row)
        batch = {"image": np.stack(rows)}
        return batch if labels is None else {**batch, "label": labels[indices]}

    attributes = None if labels is None else functools.partial(one_hot, labels, classes)
    dataset = Dataset(len(names), shape, read, None, notes, attributes, classes, labels, grouped=labels is not None)
    return dataset._replace(files=FileList(names, sizes), unreadable=bad)


def other_splits(config: ConfigDict, split: str) -> set[str]:
    """The splits in use beside this one, without their slices."""
    return {parse_split(used)[0] for used in (config.data.train, config.data.eval)} - {split}


def class_folders(lists: Sequence[Sequence[str]]) -> list[str]:
    """The first folders in the names of images of all splits in use, so that a label means the same in each."""
    return sorted({name.partition("/")[0] for names in lists for name in names if "/" in name})


def labels_by_folder(names: Sequence[str], classes: Sequence[str]) -> np.ndarray | None:
    """The index of each file's class folder; None if files lie outside class folders."""
    index = {name: i for i, name in enumerate(classes)}
    first = [name.partition("/")[0] for name in names]
    return np.array([index[name] for name in first], np.int32) if all("/" in name for name in names) else None


def _read_one(images: Images, config: ConfigDict, name: str) -> np.ndarray | str:
    """uint8 of `stored_shape`, or why it cannot be read."""
    try:
        file = images.open(name)
    except Exception as error:  # what packs and unpacks raises anything as well
        return f"{type(error).__name__}: {error}"
    return read_image(file, functools.partial(to_uint8, config=config))


def _reason(read: np.ndarray | str) -> str | None:
    return read if isinstance(read, str) else None


def _how(config: ConfigDict) -> str:
    """What decides whether a file can be read, beside the file."""
    return to_json([stored_shape(config), crop_of(config), config.data.resize, PIL.__version__])


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


def _read_all(names: Sequence[str], read_one: Callable[[str], np.ndarray | str]) -> Iterator[np.ndarray | str]:
    """Reads in threads, in order; prints progress for large sets."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done, image in enumerate(pool.map(read_one, names), 1):
            tell_progress(done, len(names))
            yield image
