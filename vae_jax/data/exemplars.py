"""Surrogate classes: patches of the images of any data set, each its own class.

Source: Dosovitskiy, Fischer, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with
exemplar convolutional neural networks", 2014 and 2016: patches of 32x32 pixels, chosen with a probability proportional
to the squared magnitude of their gradients. Their patches have various scales, ours the scale of their image.
"""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from vae_jax.config import number_of_classes
from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError

STREAM = 2**64 - 1  # with the seed, the key of this file's random numbers; no epoch uses it


def exemplars(config: ConfigDict, split: str, read_source: Callable[[ConfigDict, str], Dataset]) -> Dataset:
    """Patches of `image_size` from a split of the data set `data.source`, as many as classes, each with its own label.

    `read_source(config, split)` reads it, at `data.source_size` pixels. Each patch comes from another image while there
    are any, and is the centre of a window of `stored_shape`, mirrored at the image's edges: 70 pixels for a patch of 32
    and all its transformations. Everything follows from `seed`.
    """
    classes = number_of_classes(config)
    if classes is None:
        raise UserError("exemplars needs a system with classes: start from configs/exemplar_cnn.py.")
    dataset = read_source(_source_config(config), split)
    if not dataset.size:
        raise UserError(f"The split {split!r} of the data set {config.data.source} (data.source) is empty.")
    numbers = np.random.Philox(key=np.array([config.seed, STREAM], np.uint64))
    order = np.argsort(numbers.random_raw(dataset.size), kind="stable")
    chosen = order[np.arange(classes) % dataset.size]
    uniforms = (numbers.random_raw(classes) >> np.uint64(11)) * 2.0**-53
    size, held = config.image_size, stored_shape(config)[0]
    patches = []
    for index, uniform in zip(chosen, uniforms, strict=True):
        image = dataset.read(np.array([index]))["image"][0]
        patches.append(cut_patch(image, *draw_place(gradient_energy(image, size), uniform), size, held))
    notes = {"source": config.data.source, "images": dataset.size, "held at": held, **dataset.notes}
    return in_memory(np.stack(patches), np.arange(classes), notes)


def _source_config(config: ConfigDict) -> ConfigDict:
    """The config of the images that the patches are cut from."""
    if config.data.source == "exemplars":
        raise UserError(
            "data.source is 'exemplars' itself; expected the data set whose images the patches are cut from."
        )
    train, judged = (parse_split(config.data[key])[0] for key in ("train", "eval"))
    if train != judged:
        raise UserError(
            f"data.train is {train!r} and data.eval is {judged!r}, whose patches are different classes. "
            f"Exemplars are judged on the split that they are trained on: set data.eval to {train!r}."
        )
    if config.data.source_size < config.image_size:
        raise UserError(
            f"data.source_size is {config.data.source_size}, smaller than the patches of image_size "
            f"({config.image_size}) that are cut from the images of {config.data.source}. Increase it."
        )
    source = ConfigDict(config.to_dict())
    source.image_size = config.data.source_size
    source.data.update(name=config.data.source, random_crop=0, augment="")
    return source


def gradient_energy(image: np.ndarray, size: int) -> np.ndarray:
    """Sums [H - size + 1, W - size + 1] of the squared gradient of uint8 [H, W, C] over each window [size, size].

    Gradients are central differences, one-sided at the edges. Every sum is exact: a multiple of a quarter.
    """
    down, right = np.gradient(image.astype(np.float64), axis=(0, 1))
    sums = np.pad((down**2 + right**2).sum(axis=2), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    return sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]


def draw_place(energy: np.ndarray, uniform: float) -> tuple[int, int]:
    """Row and column drawn in proportion to `energy` by a number in [0, 1), uniformly if all energies are 0."""
    cumulative = np.cumsum(energy if energy.any() else np.ones_like(energy))
    index = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    row, column = np.unravel_index(index, energy.shape)
    return int(row), int(column)


def cut_patch(image: np.ndarray, row: int, column: int, size: int, held: int) -> np.ndarray:
    """[held, held, C] of image [H, W, C], whose central window is the patch [size, size] at this row and column."""
    before = (held - size) // 2
    after = held - size - before
    image = np.pad(image, ((before, after), (before, after), (0, 0)), mode="reflect")
    return image[row : row + held, column : column + held]
