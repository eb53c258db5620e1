"""From any image file to uint8 [size, size, C]: orientation, bit depth, colour, crop and resize."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from vae_jax.data.augment import stored_shape
from vae_jax.data.crops import crop_box, crop_of
from vae_jax.errors import UserError

SIXTEEN_BITS = ("PNG", "PPM")  # formats whose 16-bit pixels Pillow may hold in 32


def in_colours(image: Image.Image, grey: bool) -> Image.Image:
    """An image of any kind, upright, as 8-bit grey or RGB, on white where it is transparent."""
    file_format, image = image.format, _upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, file_format)
    elif image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:  # transparent pixels become white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say, or as it is where those are broken."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever is in the data; the pixels are known to be good
        return image


def _eight_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """Floats in [0, 1] or integers as 8-bit grey; ValueError for values out of range.

    White is 65,535 where the file has 16 bits. A file of 32 bits, such as a TIFF, does not say what white is: 255 if no
    pixel is above, else 65,535.
    """
    values, high = np.asarray(image, np.float32), 65535.0
    if image.mode == "F":
        high = 1.0
    elif image.mode == "I" and file_format not in SIXTEEN_BITS and values.max() <= 255:
        high = 255.0
    if not np.all((values >= 0) & (values <= high)):
        raise ValueError(f"values in [{values.min():g}, {values.max():g}], expected [0, {high:g}]")
    return Image.fromarray((values / high * 255).round().astype(np.uint8))


def to_array(image: Image.Image) -> np.ndarray:
    """uint8 [h, w, 1 or 3] of an image from `in_colours`."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def to_uint8(image: Image.Image, config: ConfigDict) -> np.ndarray:
    """An image as uint8 of `stored_shape`: upright, cropped, resized with anti-aliasing; or padded."""
    image = in_colours(image, config.data.grey)
    size = stored_shape(config)[:2]
    crop = crop_of(config)
    if crop == "pad":
        image = _pad(image, size)
    box = crop_box(crop, *image.size)
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
    height, width = array.shape[:2]
    whole = crop_box(crop_of(config), width, height) in (None, (0, 0, width, height))
    if array.shape == stored_shape(config) and whole:
        return array
    return to_uint8(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array), config)


def fit_arrays(arrays: np.ndarray, config: ConfigDict) -> np.ndarray:
    """`fit_array` for uint8 [N, h, w, c]."""
    if len(arrays) and fit_array(arrays[0], config) is arrays[0]:
        return arrays
    return np.stack([fit_array(array, config) for array in arrays])
