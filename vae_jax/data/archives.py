"""Images in zip and tar archives, which are not unpacked: DIR/train.zip, or shards such as DIR/train-000.tar."""

import contextlib
import io
import os
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset
from vae_jax.data.folders import by_part
from vae_jax.data.image_files import NAMED, by_name
from vae_jax.data.image_set import Images, class_folders, image_set, labels_by_folder, other_splits
from vae_jax.data.split_files import files_of_split, names_of_files
from vae_jax.errors import UserError, unreadable_told

SUFFIXES = (".zip", ".tar")
ENCRYPTED = -1
CLASS = ".cls"  # webdataset's: the label of the image of the same name, as digits


class Member(NamedTuple):
    """A file in an archive, which was changed at `changed`. offset: where it begins, in a zip with a header of its own.
    packed: the bytes that it takes there, by `method`, a number of the zip format, ENCRYPTED or None in a tar. crc: of
    its content, in a zip."""

    archive: Path
    changed: int
    name: str
    size: int
    offset: int
    packed: int
    method: int | None = None
    crc: int = 0


def archives(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT.zip or .tar, or of shards such as DIR/SPLIT-000.tar, sorted by path; read in place.

    Labels are the .cls files beside all images, as webdataset writes them, or else the folders at the top of the
    archives. UserError for what is no such archive, such as a compressed tar, which cannot be read in place.
    """
    return image_set(config, archive_images(config.data.dir, split, other_splits(config, split)))


def archive_images(folder: str, split: str, others: Collection[str]) -> Images:
    """What `archives` reads of a folder, with classes of that split and of `others`."""
    root = Path(folder)
    if not folder or not root.is_dir():
        raise UserError(f"archives needs a folder: set --config.data.dir=DIR, with DIR/{split}.zip or .tar in it.")
    files = files_of_split(root, split, SUFFIXES)
    if not files:
        raise UserError(
            f"{root} (data.dir) has no archive of the split {split!r}; expected {split}.zip, {split}.tar or shards "
            f"such as {split}-000.tar, not compressed. {names_of_files(root)}"
        )
    members, skipped = _members(files)
    labels, classes = _labels_in_files(members), []
    names, left_out = by_name(name for name in members if labels is None or not name.endswith(CLASS))
    if skipped:
        left_out["links to nothing and files with holes"] = {"number": len(skipped), "such as": skipped[:NAMED]}
    if labels is None:
        lists = [[members[name].name for name in names]]
        for other in others:
            theirs = [one.name for one in _members(files_of_split(root, other, SUFFIXES))[0].values()]
            if names and any(name.endswith(CLASS) for name in theirs):
                raise UserError(f"{root}: {other} has labels in {CLASS} files, but {split} has none.")
            lists.append(by_name(theirs).images)
        classes = class_folders(lists)
        labels = labels_by_folder(lists[0], classes)
    listed = [(members[name].crc << 31 ^ members[name].size, members[name].changed) for name in names]
    marks = np.array(listed, np.int64).reshape(-1, 2)
    place = files[0] if len(files) == 1 else root / split

    def content(name: str) -> BinaryIO:
        return io.BytesIO(_content(members[name]))

    return Images(place, names, marks, left_out, content, labels, classes)


def _members(files: Sequence[Path]) -> tuple[dict[str, Member], list[str]]:
    """(The files in all archives by name, sorted by it, with several archives theirs first; what cannot be read)."""
    found, skipped = {}, []
    for file in files:
        with _told(file):
            members, left = (_in_zip if file.suffix == ".zip" else _in_tar)(file)
        skipped += left
        for member in members:
            name = member.name if len(files) == 1 else f"{file.name}/{member.name}"
            found[name] = member  # of two of the same name the last one counts, as where archives are unpacked
    return {name: found[name] for name in sorted(found, key=by_part)}, skipped


def _in_zip(file: Path) -> tuple[list[Member], list[str]]:
    changed = os.stat(file).st_mtime_ns
    with zipfile.ZipFile(file) as opened:
        return [
            Member(file, changed, one.filename, one.file_size, one.header_offset, one.compress_size,
                   ENCRYPTED if one.flag_bits & 1 else one.compress_type, one.CRC)
            for one in opened.infolist()
            if not one.is_dir()
        ], []  # fmt: skip


def _in_tar(file: Path) -> tuple[list[Member], list[str]]:
    """Links are what they point to."""
    changed, found, links, skipped = os.stat(file).st_mtime_ns, {}, {}, []
    with tarfile.open(file, "r:") as opened:
        for one in opened:
            name = posixpath.normpath(one.name)
            if one.issym() or one.islnk():
                links[name] = posixpath.join(posixpath.dirname(name) if one.issym() else "", one.linkname)
            elif one.issparse():
                skipped.append(name)
            elif one.isfile():
                found[name] = Member(file, changed, name, one.size, one.offset_data, one.size)
        end = opened.offset
    _check_end(file, end)
    for name, target in links.items():
        if member := found.get(posixpath.normpath(target)):
            found[name] = member._replace(name=name)
        else:
            skipped.append(name)
    return [*found.values()], skipped


def _check_end(file: Path, end: int) -> None:
    """A tar ends with zeros: without them it is cut off, and anything else there would be passed over."""
    with open(file, "rb") as opened:
        opened.seek(end)
        rest = opened.read(tarfile.BLOCKSIZE)
        if len(rest) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"it is cut off at byte {end + len(rest):,}")
        while rest:
            if any(rest):
                raise tarfile.ReadError(f"what follows byte {end:,} is damaged, or another archive")
            rest = opened.read(2**20)


def _told(file: Path) -> contextlib.AbstractContextManager[None]:
    return unreadable_told(file, "It may be truncated, or compressed.", " in place")


def _content(member: Member) -> bytes:
    with open(member.archive, "rb") as file:
        if os.fstat(file.fileno()).st_mtime_ns != member.changed:
            raise OSError(f"{member.archive} was changed while it was in use")
        file.seek(member.offset)
        if member.method is not None:
            name, extra = struct.unpack("<26xHH", file.read(30))
            file.seek(name + extra, os.SEEK_CUR)
        packed = file.read(member.packed)
    if len(packed) < member.packed:
        raise EOFError(f"{member.archive} ends within {member.name}")
    if member.method is None:
        return packed
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        how = "encrypted" if member.method == ENCRYPTED else f"compressed by method {member.method}"
        raise ValueError(f"{how}; expected stored or deflated")
    content = zlib.decompress(packed, -zlib.MAX_WBITS) if member.method == zipfile.ZIP_DEFLATED else packed
    if zlib.crc32(content) != member.crc:
        raise ValueError("its checksum is wrong")
    return content


def _labels_in_files(members: Mapping[str, Member]) -> np.ndarray | None:
    """The numbers in the .cls files beside the images; None if there are no such files. UserError if an image has
    none."""
    if not any(name.endswith(CLASS) for name in members):
        return None
    labels = []
    for name in by_name(members).images:
        start = name.rfind("/") + 1
        keys = (name[: name.index(".", start)], name[: name.rindex(".")])  # webdataset's, and the whole stem
        beside = next((members[key + CLASS] for key in keys if key + CLASS in members), None)
        if beside is None:
            raise UserError(f"{members[name].archive}: {name} has no label, but others have {CLASS} files.")
        with _told(beside.archive):
            text = _content(beside).strip()
        if not text.isdigit() or int(text) >= 2**31:
            raise UserError(f"{beside.archive}: {beside.name} is no label; expected digits.")
        labels.append(int(text))
    return np.array(labels, np.int32)
