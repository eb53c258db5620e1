"""Folders of images of every kind, and of files that are not images."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.contract import LISTING, fingerprint
from vae_jax.data.image_files import read_image
from vae_jax.errors import UserError


@pytest.fixture
def config(smoke):
    return smoke("vae_mnist")


@pytest.fixture
def picture_folder(tmp_path, config):
    """Grey, colour, transparent, 16-bit, rotated, palette and animated images, and files that are not images."""
    config.data.update(name="image_folder", dir=str(tmp_path), grey=False)
    config.image_size = 16
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (20, 31, 3)).astype(np.uint8)
    for split, classes in (("train", ("cat", "dog")), ("test", ("dog",))):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(np.roll(colour, i, 0)).save(tmp_path / split / name / f"{i}.png")
    cats = tmp_path / "train" / "cat"
    Image.fromarray(colour[:, :, 0]).save(cats / "grey.JPG")
    Image.fromarray(colour[:, :, 0]).convert("P").save(cats / "palette.gif")
    Image.fromarray(colour[:, :, 0].astype(np.uint16) * 257).save(cats / "sixteen.png")
    Image.fromarray(np.dstack([colour, colour[:, :, :1]])).save(cats / "transparent.png")
    Image.fromarray(colour).convert("CMYK").save(cats / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(colour).save(cats / "rotated.jpg", exif=exif)
    Image.fromarray(colour[:1, :1]).save(cats / "tiny.png")
    Image.fromarray(np.linspace(-1, 1, 400, dtype=np.float32).reshape(20, 20)).save(cats / "negative.tiff")
    frames = [Image.fromarray(np.roll(colour[:, :, 0], 5 * i, 0)) for i in range(3)]
    frames[0].save(cats / "animated.gif", save_all=True, append_images=frames[1:])
    (cats / "empty.png").write_bytes(b"")
    (cats / "cut.png").write_bytes((cats / "0.png").read_bytes()[:300])
    (cats / "page.jpg").write_text("<html>")
    (cats / "notes.txt").write_text("no image")
    return tmp_path


def test_pillow_without_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("L", (3, 2)).save(tmp_path / "image.png")
    assert np.shape(read_image(tmp_path / "image.png", np.asarray)) == (2, 3)


def test_image_folder(picture_folder, config, capsys):
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert (train.size, test.size, train.image_shape) == (14, 3, (16, 16, 3))
    assert set(train.notes["unreadable"]) == {"cat/empty.png", "cat/cut.png", "cat/page.jpg", "cat/negative.tiff"}
    assert "values in [-1, 1], expected [0, 1]" in train.notes["unreadable"]["cat/negative.tiff"]
    told = capsys.readouterr().out
    assert "left out 4 of 18" in told and "cat/cut.png, OSError: " in told
    np.testing.assert_array_equal(train.arrays["label"], [0] * 11 + [1] * 3)
    np.testing.assert_array_equal(test.arrays["label"], [1] * 3)  # dog, even without cats


def test_symlinked_class_folders_count(picture_folder, config):
    (picture_folder / "test" / "cat").symlink_to(picture_folder / "train" / "dog")
    test = load_dataset(config, "test")
    np.testing.assert_array_equal(test.arrays["label"], [0] * 3 + [1] * 3)


def test_folders_beside_the_splits_add_no_classes(picture_folder, config):
    (picture_folder / "attic" / "ape").mkdir(parents=True)
    assert load_dataset(config, "train").notes["classes"] == ["cat", "dog"]


def test_image_folder_streams_the_same(picture_folder, config):
    in_memory = load_dataset(config, "train")
    config.data.memory_limit = 1000
    streamed = load_dataset(config, "train")
    assert streamed.arrays is None and streamed.size == in_memory.size
    indices = np.array([13, 0, 5])
    for key, values in streamed.read(indices).items():
        np.testing.assert_array_equal(values, in_memory.arrays[key][indices])


def test_depth_orientation_and_transparency(picture_folder, config):
    """An image is the same in 8 and 16 bits; EXIF rotates it; the first frame of an animation counts."""
    config.data.grey = True
    config.data.crop = "none"
    files = sorted(p.name for p in (picture_folder / "train" / "cat").iterdir() if p.suffix.lower() != ".txt")
    readable = [f for f in files if f not in ("empty.png", "cut.png", "page.jpg", "negative.tiff")]
    cats = dict(zip(readable, load_dataset(config, "train").arrays["image"], strict=False))
    gif, sixteen = cats["palette.gif"].astype(int), cats["sixteen.png"].astype(int)
    assert np.abs(gif - sixteen).max() <= 2
    assert np.abs(cats["animated.gif"].astype(int) - sixteen).max() <= 2
    upright = np.asarray(
        Image.open(picture_folder / "train/cat/rotated.jpg").convert("L").transpose(Image.Transpose.ROTATE_270)
        .resize((16, 16), Image.Resampling.BICUBIC)
    )  # fmt: skip
    assert np.abs(cats["rotated.jpg"][..., 0].astype(int) - upright).max() <= 1


def test_crops(picture_folder, config):
    whole = np.asarray(Image.open(picture_folder / "test/dog/0.png"))  # 20 high, 31 wide
    for crop, box in (
        ("", (5, 0, 25, 20)),
        ("square", (5, 0, 25, 20)),
        ("none", (0, 0, 31, 20)),
        ("2,3,16,16", (3, 2, 19, 18)),
    ):
        config.data.crop = crop
        expected = Image.fromarray(whole).resize((16, 16), Image.Resampling.BICUBIC, box=box)
        np.testing.assert_array_equal(load_dataset(config, "test").arrays["image"][0], np.asarray(expected))
    config.data.crop = "9,9,99,99"
    with pytest.raises(UserError, match="None of the 3 images.*does not fit in an image of height 20 and width 31"):
        load_dataset(config, "test")


def test_missing_folders(tmp_path, config):
    config.data.name = "image_folder"
    with pytest.raises(UserError, match="needs a folder"):
        load_dataset(config, "train")
    config.data.dir = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="There is no folder"):
        load_dataset(config, "train")
    (tmp_path / "trian").mkdir()
    config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match="no folder 'train'.*Did you mean 'trian'"):
        load_dataset(config, "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="No images in"):
        load_dataset(config, "train")


def write_png_header(path, width, height):
    """A PNG with a size but no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(data))


@pytest.fixture
def hostile_folder(picture_folder):
    """`picture_folder` with hostile files in each split: enormous, NaN, not a regular file and more."""
    for split in ("train", "test"):
        dogs = picture_folder / split / "dog"
        write_png_header(dogs / "enormous.png", 100_000, 100_000)
        write_png_header(dogs / "large.png", 10_000, 10_000)
        write_png_header(dogs / "no_pixels.png", 10, 10)
        for name, value in (("nan", np.nan), ("infinite", np.inf)):
            pixels = np.full((20, 20), 0.5, np.float32)
            pixels[3, 4] = value
            Image.fromarray(pixels).save(dogs / f"{name}.tiff")
        os.mkfifo(dogs / "pipe.jpg")
        (dogs / "nowhere.jpg").symlink_to(dogs / "nothing.jpg")
        (dogs / "no_utf8_\udcff.jpg").write_bytes(b"")
    return picture_folder


HOSTILE = ("enormous.png", "large.png", "no_pixels.png", "nan.tiff", "infinite.tiff", "pipe.jpg", "nowhere.jpg",
           "no_utf8_\udcff.jpg")  # fmt: skip


def test_hostile_files_are_left_out_and_named(hostile_folder, config, capfd):
    """Each once, with its reason; the kept images are those that were there before, in the same order."""
    config.data.unreadable = 0.5
    train = load_dataset(config, "train")
    assert len(train.notes["unreadable"]) == 4 + len(HOSTILE) and train.notes["files"] == 18 + len(HOSTILE)
    assert {f"dog/{name}" for name in HOSTILE} < set(train.notes["unreadable"])
    assert train.notes["unreadable"]["dog/pipe.jpg"] == "not a file"
    assert "values in [nan, nan], expected [0, 1]" in train.notes["unreadable"]["dog/nan.tiff"]
    json.dumps(train.notes)  # as data_report.json is written
    again = load_dataset(config, "train")  # as when a run is resumed, or judged on a slice of the same split
    assert again.notes == train.notes and fingerprint(again) == fingerprint(train)
    assert capfd.readouterr().out.count("files that cannot be read") == 1
    for name in HOSTILE:
        (hostile_folder / "train" / "dog" / name).unlink()
    before = load_dataset(config, "train")
    for key, values in before.arrays.items():
        np.testing.assert_array_equal(train.arrays[key], values)


def test_too_many_unreadable_files(hostile_folder, config):
    """12 of 26: more than a quarter, the default limit."""
    assert config.data.unreadable == 0.25
    with pytest.raises(UserError) as error:
        load_dataset(config, "train")
    message = str(error.value)
    assert "12 of the 26 images in " in message and "a larger fraction than data.unreadable (0.25):" in message
    assert "\n  cat/cut.png: OSError" in message and "and 2 more" in message
    config.data.unreadable = 12 / 26
    assert load_dataset(config, "train").size == 14


def test_files_of_a_streamed_set_that_changed(picture_folder, config):
    """Their names and sizes reveal it, even if none of sixteen examples does."""
    config.data.memory_limit = 1000
    before = fingerprint(load_dataset(config, "train"))
    assert set(before) == {"sha256 of all labels", "images", "sha256", LISTING}
    (picture_folder / "train" / "cat" / "tiny.png").rename(picture_folder / "train" / "cat" / "tiny2.png")
    after = fingerprint(load_dataset(config, "train"))
    assert after[LISTING] != before[LISTING] and after["sha256"] == before["sha256"]
