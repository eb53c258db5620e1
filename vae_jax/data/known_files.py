"""What earlier starts found out about the files of a folder, so that a start reads those only that are new or changed.

An index is kept for each folder and way of reading it, in $VAE_JAX_INDEX or ~/.cache/vae_jax/index. One that is broken
or of another version is made again; where none can be written, every start reads all files.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vae_jax.runtime.environment import has_home
from vae_jax.strict_json import to_json

VERSION = 1
THREADS = 4
SAVED_EVERY = 60.0  # seconds, so that a first start that is stopped goes on from there
TOLD_EVERY = 5000  # files


def marks_of(folder: Path, names: Sequence[str]) -> np.ndarray:
    """[N, 2] int64: size and time of the last change in nanoseconds of each file; -1 where these cannot be read."""
    marks = np.full((len(names), 2), -1, np.int64)
    for i, name in enumerate(names):
        with contextlib.suppress(OSError):
            found = os.stat(f"{folder}/{name}")
            marks[i] = found.st_size, found.st_mtime_ns
    return marks


def tell_progress(done: int, files: int) -> None:
    """Of many files, how many were read, now and then, on stderr."""
    if done % TOLD_EVERY == 0 or (done == files and done > TOLD_EVERY):
        print(f"read {done:,} of {files:,} images", file=sys.stderr)


def unreadable(
    folder: Path, names: Sequence[str], marks: np.ndarray, how: str, check: Callable[[str], str | None]
) -> dict[str, str]:
    """{name: why it cannot be read}, as `check` says of each file.

    It is asked about those that no earlier start with the same `how` found readable with these marks; in threads, and
    with progress on stderr.
    """
    index = _index(folder, how)
    known, reasons = _load(index), {}
    unknown = [i for i, name in enumerate(names) if known.get(name) != tuple(marks[i])]
    if len(unknown) < len(names):
        print(f"{folder}: {len(names) - len(unknown):,} files as before, {len(unknown):,} to look at", file=sys.stderr)
    good, saved = set(range(len(names))).difference(unknown), time.monotonic()

    def save() -> None:
        kept = sorted(good)
        _save(index, [names[i] for i in kept], marks[kept])

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for done, (i, reason) in enumerate(
                zip(unknown, pool.map(check, (names[i] for i in unknown)), strict=True), 1
            ):
                if reason is None:
                    good.add(i)
                else:
                    reasons[names[i]] = reason
                tell_progress(done, len(unknown))
                if time.monotonic() - saved > SAVED_EVERY:
                    save()
                    saved = time.monotonic()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if unknown or len(known) != len(names):
        save()
    return reasons


def _index(folder: Path, how: str) -> Path | None:
    """The file of an index; None where there is no place for it."""
    given = os.environ.get("VAE_JAX_INDEX")
    if not given and not has_home():
        return None
    root = Path(given) if given else Path.home() / ".cache" / "vae_jax" / "index"
    key = hashlib.sha256(f"{os.path.realpath(folder)}\0{how}".encode(errors="surrogateescape")).hexdigest()
    return root / f"{key[:32]}.npz"


def read_list(list_file: Path) -> tuple[list[str], np.ndarray | None]:
    """Names and marks as `write_list` wrote them; [] and None if the file is of another version."""
    with open(list_file, "rb") as file, np.load(file) as arrays:
        if json.loads(arrays["about"].tobytes()) != {"version": VERSION}:
            return [], None
        return arrays["names"].tobytes().decode(errors="surrogateescape").split("\0"), arrays["marks"]


def write_list(list_file: Path, names: Sequence[str], marks: np.ndarray) -> None:
    """Writes names and marks [N, ...] int64, all at once."""
    part = list_file.with_suffix(f".{os.getpid()}.part")
    about, listed = (
        np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
        for text in (to_json({"version": VERSION}), "\0".join(names))
    )
    try:
        with open(part, "wb") as file:
            np.savez_compressed(file, marks=marks, about=about, names=listed)
        os.replace(part, list_file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _load(index: Path | None) -> Mapping[str, tuple[int, int]]:
    """{name: marks} of the files that were readable; {} without an index that can be used."""
    if index is None or not index.is_file():
        return {}
    try:
        names, marks = read_list(index)
        return {} if marks is None else dict(zip(names, map(tuple, marks.tolist()), strict=True))
    except Exception as error:  # on a broken file the libraries raise anything
        print(f"{index}: this index cannot be read and is made again: {error}", file=sys.stderr)
        return {}


def _save(index: Path | None, names: Sequence[str], marks: np.ndarray) -> None:
    if index is None or not names:
        return
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        write_list(index, names, marks)
    except OSError as error:
        print(f"{index}: this index cannot be written, so that every start reads all files: {error}", file=sys.stderr)
