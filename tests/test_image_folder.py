"""Folders of pictures of every kind, and of files that are none."""

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.errors import UserError


@pytest.fixture
def config(smoke):
    return smoke("vae_mnist")


@pytest.fixture
def picture_folder(tmp_path, config):
    """Grey, colour, transparent, 16-bit, rotated, palette and animated pictures, and files that are none."""
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
    (cats / "empty.png").write_bytes(b"")
    (cats / "cut.png").write_bytes((cats / "0.png").read_bytes()[:300])
    (cats / "page.jpg").write_text("<html>")
    (cats / "notes.txt").write_text("no image")
    return tmp_path


def test_image_folder(picture_folder, config, capsys):
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert (train.size, test.size, train.image_shape) == (13, 3, (16, 16, 3))
    assert set(train.notes["unreadable"]) == {"cat/empty.png", "cat/cut.png", "cat/page.jpg", "cat/negative.tiff"}
    assert "values in [-1, 1], expected [0, 1]" in train.notes["unreadable"]["cat/negative.tiff"]
    assert "left out 4 of 17" in capsys.readouterr().out
    np.testing.assert_array_equal(train.arrays["label"], [0] * 10 + [1] * 3)
    np.testing.assert_array_equal(test.arrays["label"], [1] * 3)  # dog, also where there are no cats


def test_linked_class_folders_count(picture_folder, config):
    (picture_folder / "test" / "cat").symlink_to(picture_folder / "train" / "dog")
    test = load_dataset(config, "test")
    np.testing.assert_array_equal(test.arrays["label"], [0] * 3 + [1] * 3)


def test_other_folders_beside_the_splits_give_no_classes(picture_folder, config):
    (picture_folder / "attic" / "ape").mkdir(parents=True)
    assert load_dataset(config, "train").notes["classes"] == ["cat", "dog"]


def test_image_folder_streams_the_same(picture_folder, config):
    in_memory = load_dataset(config, "train")
    config.data.memory_limit = 1000
    streamed = load_dataset(config, "train")
    assert streamed.arrays is None and streamed.size == in_memory.size
    indices = np.array([12, 0, 5])
    for key, values in streamed.read(indices).items():
        np.testing.assert_array_equal(values, in_memory.arrays[key][indices])


def test_depth_orientation_and_transparency(picture_folder, config):
    """The same picture in 8 and 16 bits is the same; EXIF turns it; transparent pixels become white."""
    config.data.grey = True
    config.data.crop = "none"
    files = sorted(p.name for p in (picture_folder / "train" / "cat").iterdir() if p.suffix.lower() != ".txt")
    readable = [f for f in files if f not in ("empty.png", "cut.png", "page.jpg", "negative.tiff")]
    cats = dict(zip(readable, load_dataset(config, "train").arrays["image"], strict=False))
    gif, sixteen = cats["palette.gif"].astype(int), cats["sixteen.png"].astype(int)
    assert np.abs(gif - sixteen).max() <= 2
    upright = np.asarray(
        Image.open(picture_folder / "train/cat/rotated.jpg").convert("L").transpose(Image.Transpose.ROTATE_270)
        .resize((16, 16), Image.Resampling.BICUBIC)
    )  # fmt: skip
    assert np.abs(cats["rotated.jpg"][..., 0].astype(int) - upright).max() <= 1


def test_crops(picture_folder, config):
    whole = np.asarray(Image.open(picture_folder / "test/dog/0.png"))  # 20 high, 31 wide
    for crop, box in (("square", (5, 0, 25, 20)), ("none", (0, 0, 31, 20)), ("2,3,16,16", (3, 2, 19, 18))):
        config.data.crop = crop
        expected = Image.fromarray(whole).resize((16, 16), Image.Resampling.BICUBIC, box=box)
        np.testing.assert_array_equal(load_dataset(config, "test").arrays["image"][0], np.asarray(expected))
    config.data.crop = "9,9,99,99"
    with pytest.raises(UserError, match="None of the 3 images.*does not fit in an image of height 20 and width 31"):
        load_dataset(config, "test")


def test_folders_that_are_not_there(tmp_path, config):
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
