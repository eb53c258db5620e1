"""Which files a run has as examples: those of its first start, also where one has become unreadable since."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vae_jax.data.contract import Dataset, FileList, Unreadable, listed, subset
from vae_jax.data.known_files import read_list
from vae_jax.errors import UserError

NAMED = 5  # files that a message lists


def files_before(list_file: Path) -> FileList | None:
    """What `known_files.write_list` has written there, if anything."""
    names, marks = read_list(list_file) if list_file.is_file() else ([], None)
    return None if marks is None else FileList(names, marks[:, 0])


def members(dataset: Dataset, before: FileList | None) -> Dataset:
    """The examples that can be read.

    before: the files at the first start of the run. If they are the same but for some that have become unreadable,
      these stay, so that all others keep their places.
    """
    files, bad = dataset.files, dataset.unreadable
    if files is None or bad is None:
        return dataset
    names, sizes, kept = [*files.names], files.sizes, np.flatnonzero(~bad).tolist()
    if before is not None and bad.any():
        began = set(before.names)
        still = [i for i, name in enumerate(names) if not bad[i] or name in began]
        same = [names[i] for i in still] == [*before.names]
        if same and np.all(bad[still] | (sizes[still] == before.sizes)):
            kept, sizes = still, sizes.copy()
            sizes[kept] = before.sizes
    files = FileList([names[i] for i in kept], sizes[kept])
    return subset(dataset, np.array(kept))._replace(grouped=dataset.grouped, places=None, files=files, unreadable=None)


def with_stand_ins(dataset: Dataset, most: float) -> Dataset:
    """The data set, whose `read` gives the next example that can be read in place of one that cannot, and tells it.

    UserError if that are more than the fraction `most` of all.
    """
    if dataset.files is None or dataset.arrays is not None:
        return dataset
    read, size, told = dataset.read, dataset.size, {}

    def attempt(indices: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        return _attempt(read, size, most, indices)

    def tell(lost: Mapping[str, str]) -> None:
        for name, reason in lost.items():
            if name not in told:
                told[name] = reason
                print(
                    f"{Unreadable(name, reason)}; the next one stands in for it ({len(told):,} of {size:,})", flush=True
                )
        if len(told) > most * size:
            raise _too_many(told, size, most)

    def read_and_tell(indices: np.ndarray) -> dict[str, np.ndarray]:
        rows, lost = attempt(indices)
        tell(lost)
        return rows

    return dataset._replace(read=read_and_tell, attempt=attempt, tell=tell)


def _attempt(
    read: Callable[[np.ndarray], dict[str, np.ndarray]], size: int, most: float, indices: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    rows, lost = [], {}
    for index in indices:
        for behind in range(size):
            try:
                rows.append(read(np.array([(index + behind) % size])))
                break
            except Unreadable as error:
                lost[error.name] = error.reason
                if len(lost) > most * size or behind == size - 1:
                    raise _too_many(lost, size, most) from None
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}, lost


def _too_many(lost: Mapping[str, str], size: int, most: float) -> UserError:
    lines = "".join(f"\n  {name}: {reason}" for name, reason in [*lost.items()][:NAMED])
    return UserError(
        f"{len(lost):,} of {size:,} images can no longer be read, a larger fraction than data.unreadable ({most:g}):"
        f"{lines}\nIs the disk there? Mend it, or raise the limit, and run the same command to resume."
    )


def changes(before: FileList | None, now: FileList | None) -> str:
    """Which files were added, removed and changed; '' if none or not known."""
    if before is None or now is None:
        return ""
    old, new = (dict(zip(files.names, files.sizes.tolist(), strict=True)) for files in (before, now))
    kinds = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name, size in new.items() if old.get(name, size) != size],
    }
    lines = [f"  {kind}: {len(names):,} ({listed(names, NAMED)})" for kind, names in kinds.items() if names]
    return "\n".join(lines)
