"""The folder of a run: WORKDIR/config.json, runs.jsonl, scalars.jsonl, checkpoints, pictures, eval, report.html."""

import contextlib
import errno
import fcntl
import hashlib
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

from vae_jax import strict_json
from vae_jax.config import differences, flat, read_config, to_json
from vae_jax.data.crops import with_crop
from vae_jax.errors import UserError
from vae_jax.paths import local_path
from vae_jax.runtime.processes import on_first_process

FIRST_FILES = {"lock", "config.json.tmp"}  # an interrupted start may leave these
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def open_workdir(workdir: str | Path, config: ConfigDict) -> Iterator[Path]:
    """Creates or reopens the folder, and locks it for this run while the context lasts; only process 0 does so.

    UserError if it holds a run with a different model, data set or training, is in use, or cannot be written.
    """
    with contextlib.ExitStack() as held:
        path = local_path(workdir)
        on_first_process(lambda: _open(path, with_crop(config), held))
        yield path


def _open(path: Path, config: ConfigDict, held: contextlib.ExitStack) -> None:
    if (path / "config.json").is_file():
        lines = differences(read_config(path), config)
        if lines:
            raise UserError(
                f"The workdir {path} holds a different run:\n"
                + "\n".join(lines)
                + "\nChoose another --workdir, or use the config of that run."
            )
    elif path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, no folder. Choose another --workdir.")
    elif path.exists() and {file.name for file in path.iterdir()} - FIRST_FILES:
        raise UserError(f"{path} is not empty and not the workdir of a run. Choose another --workdir.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        held.callback(_lock(path / "lock").close)
        write_text(path / "config.json", to_json(config))
    except OSError as error:
        raise UserError(f"The workdir {path} cannot be written: {error}.") from None


def _lock(path: Path) -> TextIO:
    """Locks the file until it is closed or the process ends; UserError, naming the owner, if it is already locked."""
    with contextlib.ExitStack() as unless_locked:
        file = unless_locked.enter_context(path.open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"The workdir {path.parent} is in use by another run: {file.read().strip()}. Wait for it to end, stop "
                "it, or choose another --workdir."
            ) from None
        except OSError as error:  # some network file systems do not support locks
            print(f"warning: {path.parent} cannot be locked ({error}): make sure that no other run uses it", flush=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n")
        file.flush()
        unless_locked.pop_all()
    return file


def check_inputs(workdir: Path, inputs: dict[str, Any], accept_data: bool = False, changes: str = "") -> None:
    """Records the run's inputs in WORKDIR/inputs.json; UserError if a resumed run would have different inputs.

    With `accept_data` other images, with the same classes, are told and recorded instead. Only process 0 does so.
    changes: what is known of them, as lines.
    """
    on_first_process(lambda: _check_inputs(workdir / "inputs.json", inputs, accept_data, changes))


def _check_inputs(path: Path, inputs: dict[str, Any], accept_data: bool, changes: str) -> None:
    if path.is_file():
        before, now = flat(json.loads(path.read_text())), flat(inputs)
        different = [key for key, value in before.items() if now.get(key, value) != value]  # both may know less
        different += [key for key in before if key.startswith("classes") and key not in now]
        if not different:
            return
        told = "\n".join(f"  {key}: {before[key]} in the workdir, {now.get(key, 'nothing')} now" for key in different)
        told += f"\n{changes}" if changes else ""
        of_data = all(key.startswith(("train.", "eval.")) for key in different)
        if not (of_data and accept_data):
            accepting = ", or go on with these by --accept_new_data" if of_data else ""
            raise UserError(
                f"The run in {path.parent} had different inputs:\n{told}\n"
                f"Use the same data and weights as before{accepting}, or choose another --workdir."
            )
        print(f"goes on with other data than before:\n{told}", flush=True)
    write_text(path, strict_json.to_json(inputs, indent=2) + "\n")


def read_inputs(workdir: str | Path) -> dict[str, Any]:
    """What the run's workdir records of its data: {'train', 'eval': their sums, 'classes': names of the labels}.

    Workdirs of earlier versions lack some of it, or all.
    """
    files = [Path(workdir) / name for name in ("inputs.json", "data_report.json")]
    inputs, notes = (json.loads(file.read_text()) if file.is_file() else {} for file in files)
    return {"classes": notes.get("train", {}).get("classes", [])} | inputs


def digest_of(content: Any) -> str:
    """The SHA-256 of the content as JSON."""
    return hashlib.sha256(strict_json.to_json(content).encode()).hexdigest()


def note_run(workdir: Path, from_step: int) -> None:
    """Appends a record of this start of the run to runs.jsonl: command, versions, devices."""
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
    """The versions of the packages that determine the results and the speed of a run."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Appends a JSON record to a .jsonl file, or nothing at all if the disk is full."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            data = strict_json.to_json(record).encode() + b"\n"
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            file.truncate(end)
            error.filename = str(path)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file, without truncated lines; none if there is no file."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def forget_after(path: Path, step: int) -> None:
    """Drops the records after `step` from a .jsonl file: a resumed run writes them again."""
    if path.is_file():
        kept = [record for record in read_lines(path) if record["step"] <= step]
        write_text(path, "".join(strict_json.to_json(record) + "\n" for record in kept))


def write_text(path: Path, text: str) -> None:
    """Writes a file through a temporary one, so that it is never incomplete.

    Bytes of names that are not UTF-8 become escapes.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Like `write_text`, for bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)
        raise
