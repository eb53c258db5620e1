"""The files of a split by name: DIR/SPLIT.zip, or shards such as DIR/SPLIT-000.zip or DIR/SPLIT-00000-of-00005.zip."""

import re
from collections.abc import Sequence
from pathlib import Path

from vae_jax.errors import UserError

SHARD = re.compile(r"-(?P<number>\d+)(-of-(?P<of>\d+))?")


def files_of_split(root: Path, split: str, suffixes: Sequence[str], below: Sequence[str] = ("",)) -> list[Path]:
    """The split's one file, or its shards by name, in `root` or one of the folders `below` it; [] if there are none.

    UserError where a file and shards, two files or two folders claim to be the split, or where one of the shards that
    their names count is missing.
    """
    folders = [root / name for name in below]
    files = sorted(
        path
        for folder in folders if folder.is_dir()
        for path in folder.iterdir() if path.suffix in suffixes and path.is_file()
    )  # fmt: skip
    whole = [path for path in files if path.stem == split]
    shards = {
        path: match
        for path in files
        if path.stem.startswith(split) and (match := SHARD.fullmatch(path.stem, len(split)))
    }
    counts = {(path.parent, match["of"]) for path, match in shards.items()}
    if len(whole) + len(counts) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in [*whole, *shards][:5])
        raise UserError(f"{root} (data.dir) has {names}: which of them is the split {split!r}? Move the others away.")
    if shards:
        _check_complete(root, {int(match["number"]) for match in shards.values()}, next(iter(shards.values()))["of"])
    return whole or [*shards]


def _check_complete(root: Path, numbers: set[int], count: str | None) -> None:
    missing = sorted(set(range(int(count or 0))) - numbers)
    if missing:
        raise UserError(
            f"{root} (data.dir) has {len(numbers)} of the {int(count or 0)} shards that their names count: number "
            f"{missing[0]} is missing. Complete them, or rename them if they are all."
        )


def names_of_files(root: Path, below: Sequence[str] = ("",), most: int = 10) -> str:
    """What an error says is there: 'It has a.zip, b.zip.'"""
    folders = [root / name for name in below]
    there = sorted(
        str(path.relative_to(root))
        for folder in folders if folder.is_dir()
        for path in folder.iterdir() if path.is_file()
    )  # fmt: skip
    return f"It has {', '.join(there[:most])}." if there else "It has no files."
