"""Reads weights from published files, recognised by content: {name: array}, and where they came from."""

import collections
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

from pretrained_converters.caffemodel import STARTS, read_caffemodel
from pretrained_converters.torch_pickle import DAMAGE, LEGACY_START, read_numpy_pickle, read_torch
from vae_jax.errors import UserError

ARCHIVED = ("*.pth", "*.pt", "*.safetensors", "*.ckpt", "*.caffemodel")  # what is looked for inside an archive


class Source(NamedTuple):
    """Weights as published."""

    arrays: dict[str, np.ndarray]
    manifest: dict[str, str]  # the file they came from and its SHA-256
    path: str  # for messages


def read_source(path: Path, inside: Sequence[str]) -> Source:
    """The arrays of a `.pth`, `.safetensors`, `.caffemodel` or numpy pickle.

    From an archive, those of the file in it whose path ends in one of `inside`.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a weights file, or an archive that holds one.")
    data, where = path.read_bytes(), str(path)
    manifest = {"source": path.name, "source_sha256": sha256(data)}
    try:
        members = _members(data, path)
        if members is not None:
            member = _choose(members, inside, path)
            data, where = _member(data, member), f"{path}: {member}"
            manifest |= {"member": member, "member_sha256": sha256(data)}
    except (*DAMAGE, tarfile.TarError, OSError) as error:
        raise UserError(f"The archive {path} is damaged: {type(error).__name__}: {error}.") from None
    return Source(_read(data, where), manifest, where)


def sha256(data: bytes) -> str:
    """The SHA-256 sum as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _read(data: bytes, source: str) -> dict[str, np.ndarray]:
    if data[8:9] == b"{":  # after the header's length, whose bytes can look like the start of any other format
        try:
            return load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{source} is not a safetensors file: {error}.") from None
    if data.startswith((LEGACY_START, b"PK")):
        return read_torch(data, source)
    if data.startswith(b"\x80"):
        return read_numpy_pickle(data, source)
    if data.startswith(STARTS):
        return read_caffemodel(data, source)
    raise UserError(
        f"{source} is not a weights file of a known format: expected what torch.save writes (.pth), safetensors, "
        "a .caffemodel, or a pickled dict of numpy arrays."
    )


def _choose(members: Sequence[str], inside: Sequence[str], path: Path) -> str:
    """The member that ends in one of `inside`, or the only one."""
    chosen = [name for name in members if name.endswith(tuple(inside))] or members
    if len(chosen) != 1:
        raise UserError(
            f"Cannot tell which file in the archive {path} to read: expected exactly one that ends in "
            f"{' or '.join(inside) or ' or '.join(ARCHIVED)}; it holds {', '.join(members) or 'no weights'}."
        )
    return chosen[0]


def _members(data: bytes, path: Path) -> list[str] | None:
    """The weights files in a zip or tar archive; None if `data` is not an archive, or is a zip that torch wrote.

    UserError if the archive holds anything that weights have no use for.
    """
    strange = []
    if data.startswith(b"PK"):
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return None
    elif data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = archive.getmembers()
        names = [member.name for member in members if member.isfile()]
        strange = [member.name for member in members if not (member.isfile() or member.isdir())]
    else:
        return None
    strange += [name for name in names if name.startswith("/") or ".." in name.split("/")]
    strange += [name for name, count in collections.Counter(names).items() if count > 1]
    if strange:
        raise UserError(
            f"The archive {path} is refused and was not unpacked: {strange[0]!r} is a link, a device, a path that "
            "leads out of the archive, or a duplicate name. Expected plain files, as published."
        )
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in ARCHIVED)]


def _member(data: bytes, name: str) -> bytes:
    """One file of an archive, read in memory: nothing is unpacked to disk."""
    if data.startswith(b"PK"):
        return zipfile.ZipFile(io.BytesIO(data)).read(name)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.extractfile(name).read()
