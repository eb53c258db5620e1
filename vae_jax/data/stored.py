"""Images as a source stores them, to be copied: no crop, no size and no colours of a config are applied."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.data.image_set import Images
from vae_jax.errors import UserError

Content = bytes | np.ndarray | str


class Stored(NamedTuple):
    """A split as its source stores it.

    names: of its images, in order. classes: the names of the labels, or (). left_out: what is not read, as `Images`
      has it. identity: a SHA-256 that changes with the names, and with sizes and labels where the source lists them.
    read: (first) -> (content, label or None) of the images from that place on: the bytes of a file, uint8
      [h, w, 1 or 3], or why there is no content. UserError where the source itself fails, such as a disk.
    """

    names: Sequence[str]
    classes: Sequence[str]
    left_out: Mapping[str, Any]
    identity: str
    read: Callable[[int], Iterator[tuple[Content, int | None]]]


def stored_files(images: Images) -> Stored:
    """Those in files of any kind, byte by byte."""

    def read(first: int) -> Iterator[tuple[Content, int | None]]:
        for i in range(first, len(images.names)):
            yield _content(images, images.names[i]), None if images.labels is None else int(images.labels[i])

    classes = () if images.labels is None else images.classes
    identity = identity_of(images.names, classes, images.labels, images.marks[:, 0])
    return Stored(images.names, classes, images.left_out, identity, read)


def stored_arrays(
    images: np.ndarray,
    labels: np.ndarray | None,
    classes: Sequence[str] = (),
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Stored:
    """Those in an array [N, h, w, 1 or 3], called by their place; `convert` makes one of them uint8."""

    def read(first: int) -> Iterator[tuple[Content, int | None]]:
        for i in range(first, len(images)):
            yield convert(images[i]), None if labels is None else int(labels[i])

    names = row_names(len(images))
    return Stored(names, classes, {}, identity_of(names, classes, labels, images.shape, str(images.dtype)), read)


def row_names(count: int) -> list[str]:
    """What images are called that have no names: 000000, 000001, ..."""
    return [f"{row:06}" for row in range(count)]


def identity_of(names: Sequence[str], *others: Any) -> str:
    """The SHA-256 of names and of anything else that NumPy or `repr` tells."""
    parts = ["\0".join(names).encode(errors="surrogateescape")]
    parts += [part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode() for part in others]
    return hashlib.sha256(b"\0\0".join(parts)).hexdigest()


def _content(images: Images, name: str) -> Content:
    try:
        file = images.open(name)
        if not isinstance(file, Path):
            return file.read()
        if file.exists() and not file.is_file():
            return "not a file"  # perhaps a pipe, which would block
        return file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{images.place / name} cannot be read: {error}. Make it readable or remove it, and run the same command "
            "again."
        ) from None
    except Exception as error:  # what packs and unpacks raises anything as well
        return f"{type(error).__name__}: {error}"
