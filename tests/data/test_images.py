"""Pictures of every depth, format and colour are read as what they show."""

import numpy as np
import pytest
from PIL import Image, features

from vae_jax.data.image_files import read_image
from vae_jax.data.images import in_colours, to_array

GREY = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)  # 0 to 252
COLOUR = np.dstack([GREY, GREY.T, 255 - GREY])
DEEP = GREY.astype(np.uint16) * 257


def read(path, grey: bool):
    return read_image(path, lambda image: to_array(in_colours(image, grey)))


@pytest.mark.parametrize(
    "name, image, options",
    [
        ("8.png", GREY, {}),
        ("16.png", DEEP, {}),
        ("16.tif", DEEP, {}),
        ("big_endian.tif", Image.frombytes("I;16B", (8, 8), DEEP.astype(">u2").tobytes()), {}),
        ("16.pgm", DEEP.astype(np.int32), {}),
        ("8.pgm", GREY, {}),
        ("16.jp2", DEEP, {"irreversible": False}),
        ("32.tif", GREY.astype(np.int32), {}),
        ("16_of_32.tif", DEEP.astype(np.int32), {}),
        ("float.tif", GREY.astype(np.float32) / 255, {}),
        ("float.pfm", GREY.astype(np.float32) / 255, {}),
        ("palette.gif", Image.fromarray(GREY).convert("P"), {}),
        ("alpha.png", np.dstack([GREY, np.full((8, 8), 255, np.uint8)]), {}),
        ("animated.gif", GREY, {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]}),
        ("animated.webp", GREY, {"save_all": True, "append_images": [Image.fromarray(GREY.T)], "lossless": True}),
        ("8.TGA", GREY, {}),
    ],
)
def test_a_grey_picture(tmp_path, name, image, options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(tmp_path / name, **options)
    np.testing.assert_array_equal(read(tmp_path / name, grey=True)[..., 0], GREY)
    np.testing.assert_array_equal(read(tmp_path / name, grey=False), np.dstack([GREY] * 3))


def test_dark_pictures_of_sixteen_bits_stay_dark(tmp_path):
    """Their depth is known; a 32-bit one is read by its values."""
    for name, dtype in (("a.png", np.uint16), ("a.tif", np.uint16), ("a.pgm", np.int32), ("b.tif", np.int32)):
        Image.fromarray(np.full((8, 8), 255, dtype)).save(tmp_path / name)
        assert np.unique(read(tmp_path / name, grey=True)) == (255 if name == "b.tif" else 1)
    for value in (-1, 65536):
        Image.fromarray(np.full((8, 8), value, np.int32)).save(tmp_path / "c.tif")
        assert f"values in [{value}, {value}], expected [0, " in read(tmp_path / "c.tif", grey=True)


IN_COLOUR = ("a.jpg", "a.jfif", "a.webp", "a.avif", "a.ppm", "a.jp2", "a.bmp", "a.png", "cmyk.jpg", "cmyk.tiff")


@pytest.mark.parametrize("name", IN_COLOUR)
def test_a_picture_in_colour(tmp_path, name):
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    smooth = np.asarray(Image.fromarray(COLOUR).resize((64, 64)))
    Image.fromarray(smooth).convert("CMYK" if "cmyk" in name else "RGB").save(tmp_path / name, quality=95)
    assert np.abs(read(tmp_path / name, grey=False).astype(int) - smooth).mean() < 6


@pytest.mark.parametrize("exif", [b"none", b"Exif\0\0none", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
@pytest.mark.parametrize("name", ["a.png", "a.webp"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_data_are_ignored(tmp_path, name, exif):
    Image.fromarray(COLOUR).save(tmp_path / name, exif=exif, lossless=True)
    np.testing.assert_array_equal(read(tmp_path / name, grey=False), COLOUR)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_exif_data_turn_a_picture(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR[:5]).save(tmp_path / name, exif=exif, lossless=True)
    np.testing.assert_array_equal(read(tmp_path / name, grey=False), np.rot90(COLOUR[:5], -1))


def test_files_that_other_programs_would_draw_are_not_opened(tmp_path):
    """An EPS is a program, which Pillow gives to Ghostscript, whatever its file is called."""
    Image.fromarray(COLOUR).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    assert "UnidentifiedImageError" in read(tmp_path / "a.jpg", grey=False)
