"""The random transformations of a patch that Exemplar-CNN learns to ignore, on the device.

Source: Dosovitskiy, Fischer, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with
exemplar convolutional neural networks", 2014 and 2016, with its ranges: translation, scale and rotation; contrast as
factors of the pixels' projections on their principal components; saturation and value of HSV to a power, times a
factor, plus an offset; an offset of hue. Our choices, where the paper leaves it open or differs:

- Factors and powers are drawn log-uniformly, all else uniformly; saturation and value are drawn separately.
- The principal components are those of natural colours by Ohta, Kanade, Sakai 1980 (brightness, red against blue, green
  against magenta); the paper computes them from its pixels. The difference from the patch's mean colour is scaled.
- All three movements are one bilinear interpolation, without a filter before shrinking.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from ml_collections import ConfigDict

from vae_jax.errors import UserError

TRANSLATION = 0.2  # of the patch's size, up or down, left or right
SCALE = (0.7, 1.4)  # of the region that becomes the patch
ROTATION = math.radians(20)  # either way
CONTRAST = (0.5, 2.0)
POWER, FACTOR, OFFSET = (0.25, 4.0), (0.7, 1.4), 0.1  # of saturation and value
HUE = 0.1  # of the circle, either way
COMPONENTS = np.array([(1, 1, 1), (1, 0, -1), (-1, 2, -1)], np.float32) / np.sqrt([[3], [2], [6]], dtype=np.float32)


def context_size(size: int) -> int:
    """Height and width that hold every view of the central patch [size, size]: 70 for 32."""
    reach = SCALE[1] * (size - 1) / 2 * (math.cos(ROTATION) + math.sin(ROTATION)) + TRANSLATION * size
    return size + 2 * math.ceil(reach - (size - 1) / 2)


def view_size(config: ConfigDict) -> int:
    """Height and width of the images from which views of `image_size` are taken; UserError if they are grey."""
    if config.data.grey:
        raise UserError("data.augment 'exemplar' changes colours, but the images are grey: set data.grey to False.")
    return context_size(config.image_size)


def exemplar_views(key: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """A view [size, size] of the central patch of each image [B, H, W, 3] in [0, 1], moved and recoloured."""

    def view(key: jax.Array, image: jax.Array) -> jax.Array:
        place_key, colour_key = random.split(key)
        return recolour(colour_key, sample_bilinear(image, *view_positions(place_key, image.shape[:2], size)))

    return jax.vmap(view)(random.split(key, images.shape[0]), images)


def view_positions(key: jax.Array, shape: Sequence[int], size: int) -> tuple[jax.Array, jax.Array]:
    """Rows and columns [size, size], in pixels of an image of this shape, of a randomly moved patch."""
    move_key, scale_key, turn_key = random.split(key, 3)
    move = TRANSLATION * size * random.uniform(move_key, (2,), minval=-1, maxval=1)
    angle = ROTATION * random.uniform(turn_key, minval=-1, maxval=1)
    scale = _log_uniform(scale_key, (), SCALE)
    row, column = jnp.meshgrid(*2 * [jnp.arange(size) - (size - 1) / 2], indexing="ij")
    sine, cosine = scale * jnp.sin(angle), scale * jnp.cos(angle)
    rows = cosine * row - sine * column + (shape[0] - 1) / 2 + move[0]
    columns = sine * row + cosine * column + (shape[1] - 1) / 2 + move[1]
    return rows, columns


def sample_bilinear(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Values [h, w, C] of image [H, W, C] at fractional rows and columns [h, w]; beyond the edge, the edge's."""
    top, down = _cell(rows, image.shape[0])
    left, right = _cell(columns, image.shape[1])
    upper = (1 - right) * image[top, left] + right * image[top, left + 1]
    lower = (1 - right) * image[top + 1, left] + right * image[top + 1, left + 1]
    return (1 - down) * upper + down * lower


def _cell(position: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """The pixel [h, w] at or before each position, never the last, and the distance past it [h, w, 1], in [0, 1]."""
    position = jnp.clip(position, 0, length - 1)
    before = jnp.minimum(jnp.floor(position), length - 2)
    return before.astype(jnp.int32), (position - before)[..., None]


def recolour(key: jax.Array, patch: jax.Array) -> jax.Array:
    """A patch [h, w, 3] in [0, 1] with random contrast, saturation, value and hue, the same for all its pixels."""
    contrast_key, power_key, factor_key, offset_key, hue_key = random.split(key, 5)
    patch = scale_components(patch, _log_uniform(contrast_key, (3,), CONTRAST))
    hsv = rgb_to_hsv(jnp.clip(patch, 0, 1))
    power, factor = _log_uniform(power_key, (1, 1, 2), POWER), _log_uniform(factor_key, (1, 1, 2), FACTOR)
    offset = OFFSET * random.uniform(offset_key, (1, 1, 2), minval=-1, maxval=1)
    turned = (hsv[..., :1] + HUE * random.uniform(hue_key, minval=-1, maxval=1)) % 1
    return hsv_to_rgb(jnp.concatenate([turned, jnp.clip(hsv[..., 1:] ** power * factor + offset, 0, 1)], axis=-1))


def scale_components(patch: jax.Array, factors: jax.Array) -> jax.Array:
    """[h, w, 3] with the difference from its mean colour times `factors` [3] along COMPONENTS."""
    mean = patch.mean(axis=(0, 1), keepdims=True)
    projections = (patch - mean) @ COMPONENTS.T
    return mean + (projections * factors.reshape(1, 1, 3)) @ COMPONENTS


def rgb_to_hsv(rgb: jax.Array) -> jax.Array:
    """[..., 3] in [0, 1] -> hue (a fraction of the circle, 0 for grey), saturation and value, in [0, 1]."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = rgb.max(axis=-1)
    chroma = value - rgb.min(axis=-1)
    safe = jnp.where(chroma > 0, chroma, 1)
    from_green_or_blue = jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sixths = jnp.where(value == red, (green - blue) / safe, from_green_or_blue)
    return jnp.stack([sixths / 6 % 1, chroma / jnp.where(value > 0, value, 1), value], axis=-1)


def hsv_to_rgb(hsv: jax.Array) -> jax.Array:
    """The inverse of `rgb_to_hsv`, as one formula for the three colours (Smith 1978's hexagon)."""
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]

    def colour(shift: int) -> jax.Array:
        sixths = (shift + 6 * hue) % 6
        return value - value * saturation * jnp.clip(jnp.minimum(sixths, 4 - sixths), 0, 1)

    return jnp.stack([colour(5), colour(3), colour(1)], axis=-1)


def _log_uniform(key: jax.Array, shape: tuple[int, ...], bounds: tuple[float, float]) -> jax.Array:
    return jnp.exp(random.uniform(key, shape, minval=math.log(bounds[0]), maxval=math.log(bounds[1])))
