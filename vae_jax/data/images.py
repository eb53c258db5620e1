"""From any image file to uint8 [size, size, C]: orientation, bit depth, colour, crop and resize."""

import numpy as np
from ml_collections import ConfigDict
from PIL import ExifTags, Image, ImageOps

from vae_jax.data.augment import stored_shape
from vae_jax.data.crops import crop_box, crop_of
from vae_jax.errors import UserError

SIXTEEN_BITS = ("PNG", "PPM")  # formats whose 16-bit pixels Pillow may hold in 32
REDUCED = "reduced_"  # begins the values of data.resize that read JPEGs at a reduced scale


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
    """An image as uint8 of `stored_shape`: upright, cropped, resized with anti-aliasing by `data.resize`; or padded."""
    size, crop, resize = stored_shape(config)[:2], crop_of(config), config.data.resize
    if crop == "pad":
        return to_array(_pad(in_colours(image, config.data.grey), size))
    whole, scale = image.size, _reduce(image, size, crop) if resize.startswith(REDUCED) else 1.0
    image = in_colours(image, config.data.grey)
    whole = image.size if scale == 1 else whole
    box = crop_box(crop, *whole) or (0, 0, *whole)
    if image.size != size or box != (0, 0, *image.size):
        left, upper, right, lower = (edge / scale for edge in box)
        how = Image.Resampling[resize.removeprefix(REDUCED).upper()]
        image = image.resize(size, how, box=(left, upper, right, lower))
    return to_array(image)


def _reduce(image: Image.Image, size: tuple[int, int], crop: str) -> float:
    """Has a JPEG decoded 2, 4 or 8 times smaller, as long as what is used of it is no smaller than `size`; how many
    times. 1, and all of it, for other formats and for what `_upright` would turn."""
    if image.format != "JPEG" or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return 1.0
    width, height = image.size
    left, upper, right, lower = crop_box(crop, width, height) or (0, 0, width, height)
    most = min((right - left) / size[0], (lower - upper) / size[1])
    times = max(times for times in (1, 2, 4, 8) if times <= max(most, 1))
    reduced = image.draft(None, (width // times, height // times)) if times > 1 else None  # pyright: ignore
    return width / reduced[1][2] if reduced else 1.0


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
    if not len(arrays):
        return np.zeros((0, *stored_shape(config)), np.uint8)
    if fit_array(arrays[0], config) is arrays[0]:
        return arrays
    return np.stack([fit_array(array, config) for array in arrays])
