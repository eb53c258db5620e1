"""Random views of the training images: pure functions of a key, run on the device in the compiled train step.

A new one is one line in AUGMENTATIONS. Only training sees them: a data set holds its images at the augmentation's
`size`, and everything but the train step gets their central windows of `image_size`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from vae_jax.config import image_shape
from vae_jax.data.exemplar_views import exemplar_views, view_size
from vae_jax.errors import UserError, look_up


class Augmentation(NamedTuple):
    """What a train step does to its images first.

    size: height and width of the images that it takes.
    apply: (key, images [B, size, size, C]) -> [B, image_size, image_size, C], all float32 in [0, 1].
    """

    size: int
    apply: Callable[[jax.Array, jax.Array], jax.Array]


def random_windows(key: jax.Array, images: jax.Array, height: int, width: int | None = None) -> jax.Array:
    """A random window [height, width] (a square by default) of each image [B, H, W, C]; all positions are equally
    likely."""
    size, channels = (height, width or height), images.shape[3]
    rows, columns = (
        jax.random.randint(one, (len(images),), 0, side - window + 1)
        for one, side, window in zip(jax.random.split(key), images.shape[1:3], size, strict=True)
    )

    def window(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (row, column, 0), (*size, channels))

    return jax.vmap(window)(images, rows, columns)


def random_crop(config: ConfigDict) -> Augmentation:
    """Windows of `image_size` in images of `data.random_crop` pixels."""
    return Augmentation(config.data.random_crop, functools.partial(random_windows, height=config.image_size))


def exemplar(config: ConfigDict) -> Augmentation:
    """Exemplar-CNN's views of patches of `image_size`."""
    return Augmentation(view_size(config), functools.partial(exemplar_views, size=config.image_size))


AUGMENTATIONS: dict[str, Callable[[ConfigDict], Augmentation]] = {"exemplar": exemplar}


def make_augmentation(config: ConfigDict) -> Augmentation | None:
    """What the config does to its training images; None if nothing."""
    crop, name = config.data.random_crop, config.data.augment
    if crop and name:
        raise UserError(f"data.random_crop ({crop}) and data.augment ({name!r}) exclude each other: set only one.")
    if name:
        return look_up(AUGMENTATIONS, name, "data.augment")(config)
    return random_crop(config) if crop else None


def stored_shape(config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels in which images are read: `image_shape`, or what the augmentation takes."""
    augmentation, shape = make_augmentation(config), image_shape(config)
    return (augmentation.size, augmentation.size, shape[2]) if augmentation else shape
