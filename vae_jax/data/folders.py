"""What lies below a folder: every file once, without hidden ones, and never a part of it missing in silence."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vae_jax.errors import UserError

ARCHIVED = "__MACOSX"  # what macOS adds to archives: a second file for each, of the same name


class Files(NamedTuple):
    """The files below a folder, and what was left out: paths relative to it, each list sorted by path.

    hidden: files and folders whose names begin with a dot, and `__MACOSX`; nothing below them was looked at.
    again: links to a folder whose files are here already, or to one that contains it.
    """

    files: list[str]
    hidden: list[str]
    again: list[str]


def files_below(folder: Path) -> Files:
    """Every file below `folder`; linked folders are followed, each folder is entered once.

    The names above `folder` do not matter: it may itself be hidden. UserError for a folder that cannot be read.
    """
    found, seen = Files([], [], []), set()
    folders, links = [], [""]
    while folders or links:
        within = folders.pop() if folders else links.pop(0)  # a folder comes before links to it
        at = folder / within
        if not within or at.is_symlink():
            seen.update(_identity(above) for above in at.resolve().parents)
        if _identity(at) in seen:
            found.again.append(within)
            continue
        seen.add(_identity(at))
        for entry in _entries(at):
            name = f"{within}/{entry.name}" if within else entry.name
            if is_hidden(entry.name):
                found.hidden.append(name)
            elif not _is_folder(entry):
                found.files.append(name)
            else:
                (links if entry.is_symlink() else folders).append(name)
    return Files(*(sorted(names, key=by_part) for names in found))


def by_part(name: str) -> str:
    """Sorts by folder, then by what is in it: no name has a NUL."""
    return name.replace("/", "\0")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out."""
    return name.startswith(".") or name == ARCHIVED


def _entries(folder: Path) -> list[os.DirEntry]:
    with _readable(folder), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except PermissionError as error:  # a link to what may be a folder
        raise _unreadable(entry.path, error) from None
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    with _readable(folder):
        stat = os.stat(f"{folder}/.")  # fails where names can be listed, but no file can be opened
    return stat.st_dev, stat.st_ino


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(path: Path | str, error: OSError) -> UserError:
    return UserError(
        f"The folder {path} cannot be read: {error.strerror}. Its images would be missing: make it readable, or move "
        "it elsewhere."
    )
