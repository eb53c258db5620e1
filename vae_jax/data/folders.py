"""What lies below a folder: every file once, without hidden ones, and never a part of it missing in silence."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vae_jax.errors import UserError

ARCHIVED = "__MACOSX"  # what macOS adds to archives: a second file for each, of the same name


class Files(NamedTuple):
    """The files below a folder, and what was left out, each sorted by path.

    hidden: files and folders whose names begin with a dot, and `__MACOSX`; nothing below them was looked at.
    again: links to a folder whose files are here already, or to one that contains it.
    """

    files: list[Path]
    hidden: list[Path]
    again: list[Path]


def files_below(folder: Path) -> Files:
    """Every file below `folder`; linked folders are followed, each folder is entered once.

    The names above `folder` do not matter: it may itself be hidden. UserError for a folder that cannot be read.
    """
    found, seen = Files([], [], []), set()
    folders, links = [], [folder]
    while folders or links:
        at = folders.pop() if folders else links.pop(0)  # a folder comes before links to it
        if at.is_symlink() or at == folder:
            seen.update(_identity(above) for above in at.resolve().parents)
        if _identity(at) in seen:
            found.again.append(at)
            continue
        seen.add(_identity(at))
        for entry in _entries(at):
            path = Path(entry.path)
            if is_hidden(entry.name):
                found.hidden.append(path)
            elif not _is_folder(entry):
                found.files.append(path)
            else:
                (links if entry.is_symlink() else folders).append(path)
    return Files(*map(sorted, found))


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
