"""The folder of a run: WORKDIR/config.json, runs.jsonl, scalars.jsonl, checkpoints, pictures, eval, report.html."""

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import jax
from ml_collections import ConfigDict

from vae_jax.config import differences, flat, read_config, to_json
from vae_jax.errors import UserError
from vae_jax.runtime.processes import on_first_process

FIRST_FILES = {"lock", "config.json.tmp"}  # what a start may leave that was cut short
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def open_workdir(workdir: str | Path, config: ConfigDict) -> Iterator[Path]:
    """Makes or reopens the folder, for this run alone while the context lasts; of many processes only the first does.

    UserError if it holds a run of another model, data set or training, is in use by a live run, or cannot be written.
    """
    with contextlib.ExitStack() as held:
        on_first_process(lambda: _open(Path(workdir), config, held))
        yield Path(workdir)


def _open(path: Path, config: ConfigDict, held: contextlib.ExitStack) -> None:
    if (path / "config.json").is_file():
        lines = differences(read_config(path), config)
        if lines:
            raise UserError(
                f"The workdir {path} holds another run:\n"
                + "\n".join(lines)
                + "\nTake another --workdir, or the config it was trained with."
            )
    elif path.exists() and (not path.is_dir() or {file.name for file in path.iterdir()} - FIRST_FILES):
        raise UserError(f"{path} is not empty and not the workdir of a run. Take another --workdir.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        held.callback(_lock(path / "lock").close)
        write_text(path / "config.json", to_json(config))
    except OSError as error:
        raise UserError(f"The workdir {path} cannot be written: {error}.") from None


def _lock(path: Path) -> TextIO:
    """Locks the file until it is closed or the process ends; UserError, which says by whom, if it is locked already."""
    with contextlib.ExitStack() as unless_locked:
        file = unless_locked.enter_context(path.open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"The workdir {path.parent} is in use by a live run: {file.read().strip()}. Wait for it, stop it, or "
                "take another --workdir."
            ) from None
        except OSError as error:  # some network file systems have no locks
            print(f"warning: {path.parent} cannot be locked ({error}): see that no other run uses it", flush=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n")
        file.flush()
        unless_locked.pop_all()
    return file


def check_inputs(workdir: Path, inputs: dict[str, Any]) -> None:
    """Notes in WORKDIR/inputs.json what the run learns from; UserError if a resumed run would have other inputs.

    Of many processes only the first does it.
    """
    on_first_process(lambda: _check_inputs(workdir / "inputs.json", inputs))


def _check_inputs(path: Path, inputs: dict[str, Any]) -> None:
    if path.is_file():
        before, now = flat(json.loads(path.read_text())), flat(inputs)
        lines = [
            f"  {key}: {value} in the workdir, {now[key]} now"
            for key, value in before.items()
            if key in now and now[key] != value  # earlier versions noted less, and a streamed set is noted otherwise
        ]
        if lines:
            raise UserError(
                f"The run in {path.parent} had other inputs:\n"
                + "\n".join(lines)
                + "\nGive it the same data and weights again, or take another --workdir."
            )
    else:
        write_text(path, json.dumps(inputs, indent=2) + "\n")


def note_run(workdir: Path, from_step: int) -> None:
    """Appends how this start of the run came about: command, versions, devices."""
    append_line(workdir / "runs.jsonl", {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "from_step": from_step,
        "command": shlex.join(sys.orig_argv),
        "python": sys.version.split()[0],
        "versions": versions(),
        "devices": [jax.device_count(), jax.devices()[0].device_kind],
        "processes": jax.process_count(),
    })  # fmt: skip


def versions() -> dict[str, str]:
    """Those of the packages that decide what a run computes, and how fast."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def append_line(path: Path, record: dict[str, Any]) -> None:
    """One JSON record more in a .jsonl file, or none of it where the disk is full."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            data = json.dumps(record).encode() + b"\n"
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            file.truncate(end)
            error.filename = str(path)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file, without a line that was cut short; none where there is no file."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def forget_after(path: Path, step: int) -> None:
    """Drops the records of a .jsonl file that lie after `step`: a resumed run writes them again."""
    if path.is_file():
        kept = [record for record in read_lines(path) if record["step"] <= step]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def write_text(path: Path, text: str) -> None:
    """Through a temporary name, so that the file is always whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)
        raise
