"""Data sets by name. A new one is one file and one line here; any other name is looked up in tensorflow-datasets.

`DATASETS[name](config, split)` reads one split ('train', 'test') as a `Dataset` of images of `augment.stored_shape`;
`load_dataset` also takes slices such as 'train[:55000]' or 'train[90%:]'.
"""

import functools

from ml_collections import ConfigDict

from vae_jax.config import number_of_classes
from vae_jax.data.contract import Dataset, central_window, first_of_each_class, take
from vae_jax.data.embedded import mnist_5k
from vae_jax.data.exemplars import exemplars
from vae_jax.data.idx import idx_or_tfds
from vae_jax.data.image_folder import image_folder
from vae_jax.data.slices import parse_split
from vae_jax.data.synthetic import synthetic
from vae_jax.data.tfds_source import tfds_source
from vae_jax.errors import UserError


def read_whole(config: ConfigDict, split: str) -> Dataset:
    """A whole split, as its reader returns it."""
    return DATASETS.get(config.data.name, functools.partial(tfds_source, known=DATASETS))(config, split)


DATASETS = {
    "mnist": idx_or_tfds,
    "fashion_mnist": idx_or_tfds,
    "mnist_5k": mnist_5k,
    "image_folder": image_folder,
    "synthetic": synthetic,
    "exemplars": functools.partial(exemplars, read_source=read_whole),
}


def load_dataset(config: ConfigDict, split: str, augmented: bool = False) -> Dataset:
    """A split of the data set that `config.data` names, checked to hold at least one image.

    The training split is reduced to the first `data.per_class` examples of each label if that is not 0. Images are the
    central windows of `image_size`; with `augmented`, they have the size that the train step's augmentation takes.
    """
    base, bounds = parse_split(split)
    dataset = read_whole(config, base)
    dataset = take(dataset, *bounds(dataset.size))
    classes = number_of_classes(config)
    if dataset.arrays is not None and "label" in dataset.arrays and classes:
        low, high = dataset.arrays["label"].min(initial=0), dataset.arrays["label"].max(initial=0)
        if low < 0 or high >= classes:
            raise UserError(f"{config.data.name} has labels from {low} to {high}; expected 0 to {classes - 1}.")
    if not dataset.size:
        raise UserError(f"The split {split!r} of the data set {config.data.name} is empty.")
    if split == config.data.train and config.data.per_class:
        dataset = first_of_each_class(dataset, config.data.per_class)
    return dataset if augmented else central_window(dataset, config.image_size)
