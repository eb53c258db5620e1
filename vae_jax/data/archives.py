"""Images in zip and tar archives, which are not unpacked: DIR/train.zip, or shards such as DIR/train-000.tar."""

import contextlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset
from vae_jax.data.image_files import by_name
from vae_jax.data.image_set import Images, class_folders, image_set, labels_by_folder
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError

SUFFIXES = (".zip", ".tar")
CLASS = ".cls"  # webdataset's: the label of the image of the same name, as digits


class Member(NamedTuple):
    """A file in an archive. offset: where it begins, in a zip with a header of its own. packed: the bytes that it takes
    there, by `method`, a number of the zip format. mark: changes when the content does."""

    archive: Path
    name: str
    size: int
    mark: int
    offset: int
    packed: int
    method: int = zipfile.ZIP_STORED


def archives(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT.zip or .tar, or of DIR/SPLIT-*.zip or .tar, sorted by path; read in place.

    Labels are the .cls files beside all images, as webdataset writes them, or else the folders at the top of the
    archives. UserError for what is no such archive, such as a compressed tar, which cannot be read in place.
    """
    files = _archives(config, split)
    if not files:
        raise UserError(_none(config, split))
    members = _members(files)
    labels, classes = _labels_in_files(members), []
    listed = [name for name in members if labels is None or not name.endswith(CLASS)]
    names, left_out = by_name(listed)
    if labels is None:
        others = {parse_split(used)[0] for used in (config.data.train, config.data.eval)} - {split}
        theirs = [by_name(one.name for one in _members(_archives(config, other)).values()).images for other in others]
        inner = [members[name].name for name in names]
        classes = class_folders([inner, *theirs])
        labels = labels_by_folder(inner, classes)
    marks = np.array([members[name][2:4] for name in names], np.int64).reshape(-1, 2)
    place = files[0] if len(files) == 1 else Path(config.data.dir, split)

    def content(name: str) -> BinaryIO:
        return io.BytesIO(_content(members[name]))

    return image_set(config, Images(place, names, marks, left_out, content, labels, classes))


def _archives(config: ConfigDict, split: str) -> list[Path]:
    root = Path(config.data.dir)
    if not config.data.dir or not root.is_dir():
        raise UserError(f"archives needs a folder: set --config.data.dir=DIR, with DIR/{split}.zip or .tar in it.")
    return sorted(
        path
        for path in root.iterdir()
        if path.suffix in SUFFIXES and (path.stem == split or path.stem.startswith(f"{split}-"))
    )


def _none(config: ConfigDict, split: str) -> str:
    root = Path(config.data.dir)
    there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_file())[:10])
    return (
        f"{root} (data.dir) has no archive of the split {split!r}; expected {split}.zip, {split}.tar or shards such as "
        f"{split}-000.tar. {f'It has {there}.' if there else 'It has no files.'}"
    )


def _members(files: Sequence[Path]) -> dict[str, Member]:
    """The files in all archives by name, sorted by it; with several archives, theirs come first."""
    found = {}
    for file in files:
        for member in (_in_zip if file.suffix == ".zip" else _in_tar)(file):
            name = member.name if len(files) == 1 else f"{file.name}/{member.name}"
            found[name] = member  # of two of the same name the last one counts, as where archives are unpacked
    return {name: found[name] for name in sorted(found, key=lambda name: name.replace("/", "\0"))}


def _in_zip(file: Path) -> list[Member]:
    with _told(file), zipfile.ZipFile(file) as opened:
        return [
            Member(file, one.filename, one.file_size, one.CRC, one.header_offset, one.compress_size, one.compress_type)
            for one in opened.infolist()
            if not one.is_dir()
        ]


def _in_tar(file: Path) -> list[Member]:
    with _told(file), tarfile.open(file, "r:") as opened:
        changed = os.stat(file).st_mtime_ns
        return [
            Member(file, one.name.removeprefix("./"), one.size, changed ^ one.offset_data, one.offset_data, one.size)
            for one in opened
            if one.isfile()
        ]


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f"{file} cannot be read in place: {error}. It may be truncated, or compressed.") from None


def _content(member: Member) -> bytes:
    with open(member.archive, "rb") as file:
        file.seek(member.offset)
        if member.archive.suffix == ".zip":
            name, extra = struct.unpack("<26xHH", file.read(30))
            file.seek(name + extra, os.SEEK_CUR)
        packed = file.read(member.packed)
    if len(packed) < member.packed:
        raise EOFError(f"{member.archive} ends within {member.name}")
    if member.method == zipfile.ZIP_STORED:
        return packed
    if member.method == zipfile.ZIP_DEFLATED:
        return zlib.decompress(packed, -zlib.MAX_WBITS)
    raise ValueError(f"compressed by method {member.method}; expected stored or deflated")


def _labels_in_files(members: Mapping[str, Member]) -> np.ndarray | None:
    """The numbers in the .cls files beside the images; None unless every image has one."""
    images = by_name(members).images
    beside = [name[: name.index(".", name.rfind("/") + 1)] + CLASS for name in images]
    if not images or not all(name in members for name in beside):
        return None
    texts = [_content(members[name]).strip() for name in beside]
    if wrong := [name for name, text in zip(beside, texts, strict=True) if not text.isdigit()]:
        raise UserError(f"{members[wrong[0]].archive}: {wrong[0]} is no label; expected digits.")
    return np.array([int(text) for text in texts], np.int32)
