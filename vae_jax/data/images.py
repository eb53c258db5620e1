"""From any image file to uint8 [size, size, C]: orientation, bit depth, colour, crop and resize."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from vae_jax.data.augment import stored_shape
from vae_jax.errors import UserError


def crop_box(crop: str, width: int, height: int) -> tuple[int, int, int, int] | None:
    """(left, upper, right, lower) for `data.crop`: 'square', 'none', 'pad' or 'TOP,LEFT,HEIGHT,WIDTH'."""
    if crop in ("none", "pad"):
        return None
    if crop == "square":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
    top, left, box_height, box_width = map(int, crop.split(","))
    if min(box_height, box_width) < 1 or top + box_height > height or left + box_width > width:
        raise UserError(f"data.crop {crop!r} does not fit in an image of height {height} and width {width}.")
    return left, top, left + box_width, top + box_height


def in_colours(image: Image.Image, grey: bool) -> Image.Image:
    """An image of any kind, upright, as 8-bit grey or RGB, on white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits, or floats
        values, high = np.asarray(image, np.float32), 1.0 if image.mode == "F" else 65535.0
        if not np.all((values >= 0) & (values <= high)):
            raise ValueError(f"values in [{values.min():g}, {values.max():g}], expected [0, {high:g}]")
        image = Image.fromarray((values / high * 255).round().astype(np.uint8))
    elif image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:  # transparent pixels become white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def to_array(image: Image.Image) -> np.ndarray:
    """uint8 [h, w, 1 or 3] of an image from `in_colours`."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def to_uint8(image: Image.Image, config: ConfigDict) -> np.ndarray:
    """An image as uint8 of `stored_shape`: upright, cropped, resized with anti-aliasing; or padded."""
    image = in_colours(image, config.data.grey)
    size = stored_shape(config)[:2]
    if config.data.crop == "pad":
        image = _pad(image, size)
    box = crop_box(config.data.crop, *image.size)
    if image.size != size or box not in (None, (0, 0, *image.size)):
        image = image.resize(size, Image.Resampling.BICUBIC, box=box)
    return to_array(image)


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Centred on black; with odd margins, nearer to the upper left."""
    if image.width > size[0] or image.height > size[1]:
        raise UserError(f"data.crop is 'pad', but an image is larger than {size[0]}x{size[1]}: {image.size}.")
    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


def fit_array(array: np.ndarray, config: ConfigDict) -> np.ndarray:
    """`to_uint8` for uint8 [h, w, 1 or 3]; an array that already has the right size and colours is returned itself."""
    whole = crop_box(config.data.crop, array.shape[1], array.shape[0]) in (None, (0, 0, array.shape[1], array.shape[0]))
    if array.shape == stored_shape(config) and whole:
        return array
    return to_uint8(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array), config)


def fit_arrays(arrays: np.ndarray, config: ConfigDict) -> np.ndarray:
    """`fit_array` for uint8 [N, h, w, c]."""
    if len(arrays) and fit_array(arrays[0], config) is arrays[0]:
        return arrays
    return np.stack([fit_array(array, config) for array in arrays])
