"""Shards that `python -m vae_jax.shards` made of another source, read by index."""

import functools
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset
from vae_jax.data.crops import crop_of, own_crop
from vae_jax.data.image_set import Images, image_set
from vae_jax.data.shard_files import command, read_manifest, read_record, wrong_size
from vae_jax.errors import UserError


def shards(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT.json and the shards that it lists, in the order of their source.

    A set that is larger than memory is streamed. UserError for what is missing, unfinished or of another size than it
    was.
    """
    root = Path(config.data.dir)
    if not config.data.dir or not root.is_dir():
        raise UserError(
            "shards needs a folder: set --config.data.dir=DIR, where DIR is the --output of python -m vae_jax.shards."
        )
    images, source = _images(root, split)
    if not config.data.crop and own_crop(source) != crop_of(config):
        raise UserError(
            f"{root} has whole images of {source}, of which the box {own_crop(source)} is used where nothing else is "
            f"said: set --config.data.crop={own_crop(source)}, or another crop."
        )
    return image_set(config, images)


def _images(root: Path, split: str) -> tuple[Images, str]:
    """(the images, called by their rows; the data set that they are of). Marks are the shard's SHA-256 and the row."""
    manifest = read_manifest(root, split)
    names, marks, labels = [], [], []
    for number, shard in enumerate(manifest["shards"]):
        if wrong := wrong_size(root, shard):
            name = f"number {number}" if shard is None else shard["file"]
            raise UserError(
                f"{root}: of the {len(manifest['shards']):,} shards of {split}, {name} is {wrong}. Make what is "
                f"missing with\n  {command(manifest, root)}"
            )
        names += [f"{shard['file']}/{row:06}" for row in range(shard["images"])]
        marks += [(int(shard["sha256"][:15], 16), row) for row in range(shard["images"])]
        labels += shard["labels"]
    known = None if None in labels else np.array(labels, np.int32)
    marked = np.array(marks, np.int64).reshape(-1, 2)
    opened = functools.partial(_open, root)
    return Images(root / split, names, marked, {}, opened, known, manifest["classes"]), manifest["source"]["name"]


def _open(root: Path, name: str) -> BinaryIO:
    file, _, row = name.rpartition("/")
    about, content = read_record(root / file, int(row))
    if "unreadable" in about:
        raise ValueError(f"{about['name']}: {about['unreadable']}")
    return io.BytesIO(content)
