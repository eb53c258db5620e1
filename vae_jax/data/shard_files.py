"""The files of shards: array_record files, and a manifest of them for each split.

A record is a line of JSON, {"name": ..., "label": ...}, and the image as its source had it: the bytes of a file, or a
PNG of an array. Where the source had no content, the line says why in "unreadable".
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vae_jax.data.stored import Content
from vae_jax.errors import UserError
from vae_jax.strict_json import to_json

VERSION = 1
ALONE = "group_size:1,uncompressed"  # records can be read one by one, and images are compressed already
BY_INDEX = "readahead_buffer_size:0,max_parallelism:0"  # the fastest for single records, by the library's words
OPEN = 256  # shards

# ---- manifests -----------------------------------------------------------------------------------------------------


def read_manifest(root: Path, split: str, of_any_version: bool = False) -> dict[str, Any]:
    """The content of ROOT/SPLIT.json. UserError if there is none, or it is none of this version.

    images: how many. classes: names of the labels. source: {name, dir, split, splits that were copied with it, sha256
      of its listing}. images_per_shard. shards: for each None until it is made, then {file, images, bytes, sha256,
      labels: a number or None for each image, unreadable: [what has no content, and why]}.
    """
    file = root / f"{split}.json"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in root.glob("*.json")))
        raise UserError(
            f"{root} has no shards of the split {split!r}: {file.name} is missing. It has {there or 'no others'}. Make "
            f"them with\n  python -m vae_jax.shards --source=NAME --dir=DIR --output={root} --splits={split}"
        )
    try:
        manifest = json.loads(file.read_text())
        version, _ = manifest["version"], manifest["shards"]
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, LookupError):
        raise UserError(f"{file} is no manifest of shards, or damaged. Delete it, and make the shards again.") from None
    if version != VERSION and not of_any_version:
        raise UserError(
            f"{file} is of version {version}; expected {VERSION}. Make the shards again with\n  "
            f"{command(manifest, root)}"
        )
    return manifest


def command(manifest: Mapping[str, Any], root: Path) -> str:
    """The command that makes, completes or repairs these shards."""
    source = manifest.get("source", {})
    flags = {"source": source.get("name", "NAME"), "dir": source.get("dir", "DIR"), "output": root}
    flags |= {
        "splits": ",".join(source.get("splits", ["SPLITS"])),
        "images_per_shard": manifest.get("images_per_shard", ""),
    }
    given = [shlex.quote(f"--{flag}={value}") for flag, value in flags.items() if value]
    return " ".join(["python -m vae_jax.shards", *given])


def wrong_size(root: Path, shard: Mapping[str, Any] | None) -> str:
    """What is wrong with the file of a shard, '' if it is as large as it was."""
    if shard is None:
        return "not made yet"
    try:
        size = os.stat(root / shard["file"]).st_size
    except OSError:
        return "missing"
    return "" if size == shard["bytes"] else f"of {size:,} bytes, not {shard['bytes']:,} as when it was made"


def wrong_sum(root: Path, shard: Mapping[str, Any] | None) -> str:
    """The same, '' if it is byte for byte what it was."""
    if (wrong := wrong_size(root, shard)) or shard is None:
        return wrong
    return "" if _sha256(root / shard["file"]) == shard["sha256"] else "damaged: its SHA-256 is another one"


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# ---- records -------------------------------------------------------------------------------------------------------


def write_shard(file: Path, images: Iterator[tuple[str, Content, int | None]]) -> dict[str, Any]:
    """Writes (name, content, label) to a file, under another name until it is complete; what a manifest says of it."""
    part, labels, unreadable = file.with_name(f"{file.name}.part"), [], []
    with _writer(part) as write:
        for name, content, label in images:
            about = {"name": name, "label": label}
            if isinstance(content, str):
                unreadable.append(f"{name}: {content}")
                about["unreadable"], content = content, b""
            write(to_json(about).encode() + b"\n" + (content if isinstance(content, bytes) else _png(content)))
            labels.append(label)
    entry = {"file": file.name, "images": len(labels), "bytes": part.stat().st_size, "sha256": _sha256(part)}
    part.replace(file)
    return entry | {"labels": labels, "unreadable": unreadable}


def read_record(file: Path, row: int) -> tuple[dict[str, Any], bytes]:
    """({'name': ..., 'label': ...}, the image) of one record. Any error of the library; threads may call it."""
    about, _, content = _reader(str(file), os.stat(file).st_mtime_ns).read([row])[0].partition(b"\n")
    return json.loads(about), content


@functools.lru_cache(maxsize=OPEN)
def _reader(file: str, changed: int) -> Any:
    """Threads may share it; `changed` makes it another one where a shard was made again."""
    return _library().ArrayRecordReader(file, options=BY_INDEX)


def _library() -> Any:
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    return array_record_module


@contextlib.contextmanager
def _writer(part: Path) -> Iterator[Callable[[bytes], None]]:
    """Adds records to a new file, which is removed if it cannot be completed."""

    @contextlib.contextmanager
    def told() -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # all that the library raises
            raise UserError(
                f"{part} cannot be written: {error}. Free some disk space, or choose another --output, and run the "
                "same command again: it goes on with this shard."
            ) from None

    def write(record: bytes) -> None:
        with told():
            writer.write(record)

    part.write_bytes(b"")  # tells in words that nothing can be written there
    try:
        writer = _library().ArrayRecordWriter(str(part), ALONE)
        yield write
        with told():
            writer.close()
        with open(part, "rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _png(pixels: np.ndarray) -> bytes:
    """uint8 [h, w, 1 or 3] as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
