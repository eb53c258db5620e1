"""The folder of a run: WORKDIR/config.json, runs.jsonl, scalars.jsonl, checkpoints, pictures, eval, report.html."""

import contextlib
import importlib.metadata
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax.config import differences, read_config, to_json
from vae_jax.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def open_workdir(workdir: str | Path, config: ConfigDict) -> Path:
    """Makes or reopens the folder; UserError if it holds a run of another model, data set or training."""
    path = Path(workdir)
    if (path / "config.json").is_file():
        lines = differences(read_config(path), config)
        if lines:
            raise UserError(
                f"The workdir {path} holds another run:\n"
                + "\n".join(lines)
                + "\nTake another --workdir, or the config it was trained with."
            )
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is not empty and not the workdir of a run. Take another --workdir.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            write_text(path / "config.json", to_json(config))
    except OSError as error:
        raise UserError(f"The workdir {path} cannot be written: {error}.") from None
    return path


def check_inputs(workdir: Path, inputs: dict[str, Any]) -> None:
    """Notes in WORKDIR/inputs.json what the run learns from; UserError if a resumed run would have other inputs."""
    path = workdir / "inputs.json"
    if path.is_file():
        before = json.loads(path.read_text())
        lines = [f"  {k}: {before.get(k)} in the workdir, {v} now" for k, v in inputs.items() if before.get(k) != v]
        if lines:
            raise UserError(
                f"The run in {workdir} had other inputs:\n"
                + "\n".join(lines)
                + "\nGive it the same data and weights again, or take another --workdir."
            )
    elif jax.process_index() == 0:
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
    """One JSON record more in a .jsonl file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


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
    temporary.write_bytes(data)
    temporary.replace(path)
