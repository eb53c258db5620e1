"""Pictures of every depth, format and colour are read as what they show."""

import numpy as np
import pytest
from PIL import Image, features

from vae_jax.cli import load_config
from vae_jax.data.image_files import read_image
from vae_jax.data.images import in_colours, to_array, to_uint8

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


def far_bicubic(x):
    return np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0)


KERNELS = {  # half width at scale 1, weight at a distance
    "box": (0.5, lambda x: np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)),
    "bilinear": (1.0, lambda x: np.maximum(1 - np.abs(x), 0)),
    "bicubic": (2.0, lambda x: np.where(x * x < 1, (1.5 * np.abs(x) - 2.5) * x * x + 1, far_bicubic(np.abs(x)))),
    "lanczos": (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)),
}  # fmt: skip


def resampled(rows: np.ndarray, length: int, name: str) -> np.ndarray:
    """[n, ...] -> [length, ...]: the filter widened by the scale, its weights normalised, as 8-bit integers."""
    width, kernel = KERNELS[name]
    scale = len(rows) / length
    centres = (np.arange(length) + 0.5) * scale
    distance = (np.arange(len(rows)) + 0.5 - centres[:, None]) / scale
    weights = np.where(np.abs(distance) <= width, kernel(distance), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(np.floor(np.tensordot(weights, rows, 1) + 0.5), 0, 255)


def small_config(**changes):
    config = load_config("losses_celeba:l2")
    config.update({"image_size": 16})
    config.data.update({"name": "image_folder", "crop": "none", **changes})
    return config


@pytest.mark.parametrize("name", KERNELS)
def test_resizing_by_hand(name):
    """Columns first, then rows, each rounded to 8 bits: the published kernels, to a level where a half is rounded."""
    pixels = np.random.default_rng(0).integers(0, 256, (56, 40, 3)).astype(np.uint8)
    ours = to_uint8(Image.fromarray(pixels), small_config(resize=name))
    columns = resampled(pixels.swapaxes(0, 1).astype(float), 16, name).swapaxes(0, 1)
    theirs = resampled(columns, 16, name)
    assert ours.shape == (16, 16, 3) and np.abs(ours - theirs).max() <= 1 and np.mean(ours != theirs) < 0.02


@pytest.mark.parametrize("name", KERNELS)
def test_resizing_is_torchvisions(name):
    """Of pictures it is Pillow's, the same bits; of tensors it knows two of these filters, and rounds once."""
    transforms, torch = pytest.importorskip("torchvision.transforms.functional"), pytest.importorskip("torch")
    mode = pytest.importorskip("torchvision.transforms").InterpolationMode[name.upper()]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 40, 3)).astype(np.uint8))
    ours = to_uint8(image, small_config(resize=name))
    np.testing.assert_array_equal(ours, transforms.resize(image, [16, 16], mode))
    if name in ("bilinear", "bicubic"):
        tensor = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)
        theirs = transforms.resize(tensor, [16, 16], mode, antialias=True).permute(1, 2, 0).numpy()
        assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("crop", ["none", "square", "30,10,100,90"])
@pytest.mark.parametrize("turned", [False, True])
def test_jpegs_are_read_at_a_reduced_scale(tmp_path, crop, turned):
    """No smaller than wanted, and the same part of the picture: a smooth one comes out as from the whole. One that has
    to be turned is read whole."""
    rows, columns = np.meshgrid(np.linspace(0, 5, 301), np.linspace(0, 4, 203), indexing="ij")
    smooth = np.dstack([np.sin(rows + columns), np.cos(rows), np.sin(2 * columns)]) * 100 + 128
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    sizes = []
    for size in (16, 96):
        found = {}
        for resize in ("bicubic", "reduced_bicubic"):
            config = small_config(resize=resize, crop=crop)
            config.image_size = size
            with Image.open(tmp_path / "a.jpg") as image:
                found[resize] = to_uint8(image, config).astype(int)
                sizes.append(image.size)
        difference = np.abs(found["bicubic"] - found["reduced_bicubic"])
        assert difference.max() <= 6 and difference.mean() < 1
    whole, reduced, again, least = sizes
    small, large = (
        ((203, 301),) * 2 if turned else ((26, 38), (102, 151)) if crop != "30,10,100,90" else ((51, 76), (203, 301))
    )
    assert whole == again == (203, 301) and (reduced, least) == (small, large)


def test_only_jpegs_are_reduced(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 160, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    one, other = (
        read_image(tmp_path / "a.png", lambda image, how=how: to_uint8(image, small_config(resize=how)))
        for how in ("lanczos", "reduced_lanczos")
    )
    np.testing.assert_array_equal(one, other)
