"""Reads weights from any file that they are published in, told apart by content: {name: array}, and where they were."""

import fnmatch
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from pretrained_converters.torch_pickle import LEGACY_START, read_numpy_pickle, read_torch
from vae_jax.errors import UserError

ARCHIVED = ("*.pth", "*.pt", "*.safetensors", "*.ckpt")  # what is looked for inside an archive


class Source(NamedTuple):
    """Weights as somebody published them."""

    arrays: dict[str, np.ndarray]
    manifest: dict[str, str]  # what file they came from, with its sum
    path: str  # for messages


def read_source(path: Path, inside: Sequence[str]) -> Source:
    """The arrays of a `.pth`, `.safetensors` or numpy pickle; of an archive, the file that ends as `inside` says."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file of weights, or an archive that holds one.")
    data = path.read_bytes()
    manifest = {"source": path.name, "source_sha256": sha256(data)}
    members = _members(data)
    if members is None:
        return Source(_read(data, str(path)), manifest, str(path))
    chosen = [name for name in members if name.endswith(tuple(inside))] or members
    if len(chosen) != 1:
        raise UserError(
            f"{path} is an archive in which no single file is the one to read: expected one that ends in "
            f"{' or '.join(inside) or ' or '.join(ARCHIVED)}; it holds {', '.join(members) or 'no weights'}."
        )
    data = _member(data, chosen[0])
    manifest |= {"member": chosen[0], "member_sha256": sha256(data)}
    where = f"{path}: {chosen[0]}"
    return Source(_read(data, where), manifest, where)


def sha256(data: bytes) -> str:
    """The SHA-256 sum as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _read(data: bytes, source: str) -> dict[str, np.ndarray]:
    if data.startswith((LEGACY_START, b"PK")):
        return read_torch(data, source)
    if data.startswith(b"\x80"):
        return read_numpy_pickle(data, source)
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{source} is not a file of weights that is known here: expected what torch.save writes (.pth), "
            "safetensors, or a pickled dict of numpy arrays."
        ) from None


def _members(data: bytes) -> list[str] | None:
    """The files of weights in a zip or tar archive; None where `data` is no archive, or is a zip that torch wrote."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return None
    elif data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                names = [member.name for member in archive.getmembers() if member.isfile()]
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"The archive is damaged: {error}.") from None
    else:
        return None
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in ARCHIVED)]


def _member(data: bytes, name: str) -> bytes:
    """One file of an archive, read in memory: nothing is unpacked to disk."""
    if data.startswith(b"PK"):
        return zipfile.ZipFile(io.BytesIO(data)).read(name)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.extractfile(name).read()
