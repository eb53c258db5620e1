"""Which files below a folder are images, and the reading of one."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from vae_jax.data.folders import files_below, is_hidden
from vae_jax.errors import UserError

NAMED = 10  # files that a message or a note lists
# Pillow identifies these only, or has others draw them; .pcd is a cloud of points more often than a Photo CD.
NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PCD", "WMF"}


class ImageFiles(NamedTuple):
    """The images below a folder, by their extension, as paths relative to it and sorted, and what is there besides.

    left_out: {reason: {'number': of files and folders, 'such as': ['.txt', ...]}}.
    """

    images: list[str]
    left_out: dict[str, dict[str, Any]]


def image_files(folder: Path) -> ImageFiles:
    """What lies below `folder`; UserError for a folder that cannot be read."""
    files, hidden, again = files_below(folder)
    return _image_files(files, hidden, again)


def by_name(names: Iterable[str]) -> ImageFiles:
    """The same of files that have names like paths, such as those in an archive."""
    names = [*names]
    hidden = {name for name in names if any(map(is_hidden, name.split("/")))}
    return _image_files([name for name in names if name not in hidden], sorted(hidden), [])


def _image_files(files: list[str], hidden: list[str], again: list[str]) -> ImageFiles:
    images = [name for name in files if _is_image(name)]
    reasons = {
        "hidden": hidden,
        "links to folders that are read already": again,
        "not images by their extension": [
            Path(name).suffix or Path(name).name for name in files if not _is_image(name)
        ],
    }
    left_out = {
        reason: {"number": len(names), "such as": [name for name, _ in Counter(names).most_common(NAMED)]}
        for reason, names in reasons.items()
        if names
    }
    return ImageFiles(images, left_out)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _extensions()


def no_images(folder: Path, left_out: Mapping[str, dict[str, Any]]) -> UserError:
    """That there are none in `folder`, and what was left out."""
    return UserError(f"No images in {folder}: expected files such as .jpg or .png. {tell(left_out)}".strip())


def tell(left_out: Mapping[str, dict[str, Any]]) -> str:
    """One sentence on what was left out, '' if nothing was."""
    parts = [f"{reason}, {note['number']} ({_some(note['such as'])})" for reason, note in left_out.items()]
    return f"Left out: {'; '.join(parts)}." if parts else ""


def _some(names: Collection[str]) -> str:
    return ", ".join([*names][:3]) + (", ..." if len(names) > 3 else "")


def read_image(file: Path | BinaryIO, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray | str:
    """What `convert` makes of the file, or the reason why it cannot be read."""
    try:
        if isinstance(file, Path) and file.exists() and not file.is_file():
            return "not a file"  # perhaps a pipe, which would block
        with Image.open(file, formats=_formats()) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                return f"{image.width}x{image.height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}"
            return convert(image)
    except UserError as error:
        return str(error)
    except UnidentifiedImageError:
        return "UnidentifiedImageError: no image that can be read"
    except Exception as error:  # on broken files decoders raise anything; the file is reported, the run continues
        return f"{type(error).__name__}: {error}"


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it decodes itself, the commonest first."""
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)


@functools.cache
def _extensions() -> frozenset[str]:
    """The extensions of those formats, such as '.jpg'."""
    known = Image.registered_extensions().items()
    return frozenset(extension for extension, name in known if name in (*_formats(), "MPO"))  # MPO: JPEG, twice
