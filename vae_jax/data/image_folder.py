"""Any folder of images: DIR/train/... and DIR/test/..., at any depth, grey or colour, any size."""

from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset
from vae_jax.data.folders import is_hidden
from vae_jax.data.image_files import image_files
from vae_jax.data.image_set import Images, class_folders, image_set, labels_by_folder, other_splits
from vae_jax.data.known_files import marks_of
from vae_jax.errors import UserError, did_you_mean


def image_folder(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT, sorted by path; folders directly below SPLIT, if any, are the labels.

    Hidden and other files are left out and counted in `notes`; UserError if a folder cannot be read.
    """
    return image_set(config, folder_images(config.data.dir, split, other_splits(config, split)))


def folder_images(root: str, split: str, others: Collection[str]) -> Images:
    """What `image_folder` reads of a folder, with classes of that split and of `others`."""
    folder = _folder(root, split)
    names, left_out = image_files(folder)
    beside = [folder.with_name(other) for other in others if folder.with_name(other).is_dir()]
    lists = [names, *(image_files(other).images for other in beside)]
    classes = class_folders(lists)
    labels = labels_by_folder(names, classes)
    return Images(folder, names, marks_of(folder, names), left_out, lambda name: folder / name, labels, classes)


def _folder(given: str, split: str) -> Path:
    """The folder of a split; UserError if there is none."""
    if not given:
        raise UserError("image_folder needs a folder: set --config.data.dir=DIR, with DIR/train and DIR/test in it.")
    root = Path(given)
    if not root.is_dir():
        raise UserError(f"There is no folder {root} (data.dir).")
    folder = root / split
    if not folder.is_dir():
        there = [p.name for p in root.iterdir() if p.is_dir() and not is_hidden(p.name)]
        hint = did_you_mean(split, there) if there else "It has no folders at all."
        raise UserError(f"{root} (data.dir) has no folder {split!r}; expected {folder}/.../*.jpg or *.png. {hint}")
    return folder
