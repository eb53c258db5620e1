"""Data sets by name. A new one is one file and one line here; any other name is looked up in tensorflow-datasets.

`DATASETS[name](config, split)` reads one split ('train', 'test') as a `Dataset` of images of `augment.stored_shape`;
`load_dataset` also takes slices such as 'train[:55000]' or 'train[90%:]'. What can be copied into shards is in
`COPIED` as well, as the source stores it.
"""

import functools
import os
from collections.abc import Callable, Collection, Sequence

import numpy as np
from ml_collections import ConfigDict

from vae_jax.config import number_of_classes
from vae_jax.data.archives import archive_images, archives
from vae_jax.data.array_files import array_files, stored_array_files
from vae_jax.data.contract import (
    Dataset,
    FileList,
    Reading,
    central_window,
    first_of_each_class,
    places,
    take,
    with_classes,
    with_labels_below,
)
from vae_jax.data.embedded import mnist_5k, stored_digits
from vae_jax.data.exemplars import exemplars
from vae_jax.data.hugging_face_source import hugging_face, hugging_face_images
from vae_jax.data.idx import idx_or_tfds, stored_idx_or_tfds
from vae_jax.data.image_folder import folder_images, image_folder
from vae_jax.data.image_set import Images
from vae_jax.data.membership import members, with_stand_ins
from vae_jax.data.parquet_source import parquet, parquet_images
from vae_jax.data.shards_source import shards
from vae_jax.data.slices import parse_split
from vae_jax.data.stored import Stored, stored_files
from vae_jax.data.synthetic import synthetic
from vae_jax.data.tfds_source import stored_tfds, tfds_source
from vae_jax.errors import UserError
from vae_jax.paths import local_path


def read_whole(config: ConfigDict, split: str) -> Dataset:
    """A whole split, all of which can be read."""
    return members(_read_whole(config, split), None)


def _read_whole(config: ConfigDict, split: str) -> Dataset:
    return DATASETS.get(config.data.name, functools.partial(tfds_source, known=DATASETS))(config, split)


DATASETS = {
    "mnist": idx_or_tfds,
    "fashion_mnist": idx_or_tfds,
    "mnist_5k": mnist_5k,
    "image_folder": image_folder,
    "array_files": array_files,
    "archives": archives,
    "parquet": parquet,
    "hugging_face": hugging_face,
    "shards": shards,
    "synthetic": synthetic,
    "exemplars": functools.partial(exemplars, read_source=read_whole),
}


def _files(images: Callable[[str, str, Collection[str]], Images]) -> Callable[[str, str, Collection[str]], Stored]:
    return lambda folder, split, others: stored_files(images(folder, split, others))


COPIED = {  # (folder, split, other splits in use) -> Stored
    "mnist": functools.partial(stored_idx_or_tfds, "mnist"),
    "fashion_mnist": functools.partial(stored_idx_or_tfds, "fashion_mnist"),
    "mnist_5k": stored_digits,
    "image_folder": _files(folder_images),
    "array_files": stored_array_files,
    "archives": _files(archive_images),
    "parquet": _files(parquet_images),
    "hugging_face": _files(hugging_face_images),
}


def read_stored(name: str, folder: str, split: str, others: Collection[str] = ()) -> Stored:
    """A whole split of the data set `name` as it is stored; labels mean the same in the `others`. UserError as usual,
    and for data that are stored nowhere else."""
    if name in DATASETS and name not in COPIED:
        raise UserError(f"{name} cannot be copied. Known: {', '.join(COPIED)}, and the names of tensorflow-datasets.")
    return COPIED.get(name, functools.partial(stored_tfds, name, known=DATASETS))(folder, split, others)


def load_dataset(
    config: ConfigDict, split: str, augmented: bool = False, classes: Sequence[str] = (), before: FileList | None = None
) -> Dataset:
    """A split of the data set that `config.data` names, checked to hold at least one image.

    The training split is reduced to the first `data.per_class` examples of each label if that is not 0. Images are the
    central windows of `image_size`; with `augmented`, they have the size that the train step's augmentation takes.
    Labels count `classes`, the names that a training gave them, if there are any; UserError for a class not in them.
    before: the files of the split when the run began, see `members`.
    """
    if config.data.dir:
        config = ConfigDict(config.to_dict())
        config.data.dir = str(local_path(config.data.dir))
    base, bounds = parse_split(split)
    dataset = members(_read_whole(config, base), before)
    dataset = dataset._replace(reading=Reading(config.data.threads, config.data.workers))
    dataset = take(dataset, *bounds(dataset.size))
    if not dataset.size:
        raise UserError(f"The split {split!r} of the data set {config.data.name} is empty.")
    dataset = with_classes(dataset, classes, f"{config.data.dir or config.data.name}, split {split},")
    if count := number_of_classes(config):
        dataset = with_labels_below(dataset, count, config.data.name)
    if split == config.data.train and config.data.per_class:
        dataset = first_of_each_class(dataset, config.data.per_class)
    dataset = dataset if augmented else central_window(dataset, config.image_size)
    return with_stand_ins(dataset, config.data.unreadable)


def examples_in_both(config: ConfigDict, train: Dataset, judged: Dataset) -> int:
    """How many examples are in both of the splits `data.train` and `data.eval`, as `load_dataset` returned them.

    Exemplars are judged on what they are trained on, by design: 0.
    """
    if config.data.name == "exemplars" or _whole(config.data.train, train) != _whole(config.data.eval, judged):
        return 0
    return len(np.intersect1d(places(train), places(judged)))


def _whole(split: str, dataset: Dataset) -> str:
    """What the split is a slice of: its folder, links resolved, or its name."""
    return os.path.realpath(str(dataset.notes["folder"])) if "folder" in dataset.notes else parse_split(split)[0]
