"""Data from files, folders and tensorflow-datasets, good and bad."""

import functools
import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.idx import read_idx
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError


def idx_bytes(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """A small MNIST: train plain, test zipped."""
    rng = np.random.default_rng(0)
    for prefix, n, zipped in (("train", 30, False), ("t10k", 11, True)):
        arrays = {"images-idx3": rng.integers(0, 256, (n, 28, 28)), "labels-idx1": np.arange(n) % 10}
        for kind, array in arrays.items():
            data = idx_bytes(array.astype(np.uint8))
            path = tmp_path / f"{prefix}-{kind}-ubyte"
            (path.with_name(path.name + ".gz") if zipped else path).write_bytes(gzip.compress(data) if zipped else data)
    return tmp_path


@pytest.fixture
def config(smoke):
    return smoke("vae_mnist")


def test_idx_folder(idx_folder, config):
    for name in ("mnist", "fashion_mnist"):
        config.data.update(name=name, dir=str(idx_folder))
        train, test = load_dataset(config, "train"), load_dataset(config, "test[5:]")
        assert (train.size, test.size) == (30, 6)
        assert train.image_shape == (28, 28, 1) and train.arrays["image"].dtype == np.uint8
        np.testing.assert_array_equal(test.arrays["label"], [5, 6, 7, 8, 9, 0])
        expected = read_idx(idx_folder / "t10k-images-idx3-ubyte.gz")[5:]
        np.testing.assert_array_equal(test.arrays["image"][..., 0], expected)
    with pytest.raises(UserError, match="no split 'validation'"):
        load_dataset(config, "validation")


def test_idx_files_that_are_damaged(idx_folder, config):
    config.data.update(name="mnist", dir=str(idx_folder))
    images = idx_folder / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    for damaged, message in (
        (whole[:-1], "truncated or damaged: 23,535 bytes, expected 23,536"),
        (whole[:9], "ends inside its header"),
        (b"", "begins with nothing"),
        (b"<html>not found</html>", "not an IDX file"),
    ):
        images.write_bytes(damaged)
        with pytest.raises(UserError, match=message):
            load_dataset(config, "train")
    images.unlink()
    with pytest.raises(UserError, match="No train-images-idx3-ubyte"):
        load_dataset(config, "train")
    zipped = idx_folder / "t10k-images-idx3-ubyte.gz"
    zipped.write_bytes(zipped.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged or truncated"):
        load_dataset(config, "test")


def test_the_real_mnist(real_data, config):
    """Canonical order: the first labels of the files of LeCun, Cortes and Burges."""
    config.data.update(name="mnist", dir=str(real_data / "mnist"))
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert (train.size, test.size) == (60_000, 10_000)
    np.testing.assert_array_equal(train.arrays["label"][:5], [5, 0, 4, 1, 9])
    np.testing.assert_array_equal(test.arrays["label"][:5], [7, 2, 1, 0, 4])


def test_mnist_5k(config):
    config.data.name = "mnist_5k"
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert (train.size, test.size, train.image_shape) == (4000, 1000, (28, 28, 1))
    np.testing.assert_array_equal(np.bincount(test.arrays["label"]), [100] * 10)
    both = np.concatenate([train.arrays["image"], test.arrays["image"]]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == 5000
    assert both.max() == 255


@pytest.mark.parametrize(
    "split, bounds",
    [("train", (0, 60)), ("train[:50]", (0, 50)), ("train[50:]", (50, 60)), ("train[90%:]", (54, 60)),
     ("train[-10:]", (50, 60)), ("train[10:1000]", (10, 60))],
)  # fmt: skip
def test_slices(split, bounds):
    base, function = parse_split(split)
    assert base == "train" and function(60) == bounds


def test_slices_that_are_none(config):
    with pytest.raises(UserError, match="Cannot read the split"):
        parse_split("train[5]")
    with pytest.raises(UserError, match="is empty"):
        load_dataset(config, "train[1000:]")


def test_the_first_of_each_class(idx_folder, config):
    """Of the split to learn from, and of no other; with slices, attributes and a class that is too small."""
    config.data.update(name="mnist", dir=str(idx_folder), per_class=2)
    whole = read_idx(idx_folder / "train-images-idx3-ubyte")
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert (train.size, test.size) == (20, 11)
    np.testing.assert_array_equal(train.arrays["image"][..., 0], whole[:20])
    names, values = train.attributes()
    assert len(names) == 10 and (values.sum(0) == 2).all()
    config.data.train = "train[5:]"
    np.testing.assert_array_equal(load_dataset(config, "train[5:]").arrays["image"][..., 0], whole[5:25])
    config.data.per_class = 3
    with pytest.raises(UserError, match="data.per_class is 3, but there are only 2 examples of label 0"):
        load_dataset(config, "train[5:]")


def test_padding(idx_folder, config):
    """28x28 in the middle of 33x33, two rows above and three below."""
    config.data.update(name="mnist", dir=str(idx_folder), crop="pad")
    config.image_size = 33
    padded = load_dataset(config, "test").arrays["image"][..., 0]
    whole = read_idx(idx_folder / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(padded[:, 2:30, 2:30], whole)
    assert padded.shape == (11, 33, 33) and padded.sum() == whole.sum()
    config.image_size = 20
    with pytest.raises(UserError, match="'pad', but an image is larger than 20x20"):
        load_dataset(config, "test")


def test_labels_out_of_range(idx_folder, smoke):
    config = smoke("classifier_mnist")
    config.data.update(name="mnist", dir=str(idx_folder))
    config.classes = 9
    with pytest.raises(UserError, match="labels from 0 to 9; expected 0 to 8"):
        load_dataset(config, "train")


def test_crop_of_arrays_that_have_the_size(idx_folder, config):
    config.data.update(name="mnist", dir=str(idx_folder), crop="4,5,20,20")
    cropped = load_dataset(config, "test").arrays["image"][0, :, :, 0]
    whole = Image.fromarray(read_idx(idx_folder / "t10k-images-idx3-ubyte.gz")[0])
    expected = whole.resize((28, 28), Image.Resampling.BICUBIC, box=(5, 4, 25, 24))
    np.testing.assert_array_equal(cropped, np.asarray(expected))


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


@functools.cache  # a name can be registered once
def tiny_pictures():
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 10, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(12):
                yield i, {"image": np.full((8, 10, 3), 20 * i, np.uint8), "label": i % 3}

    return TinyPictures


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_tensorflow_datasets(tmp_path, config, file_format):
    """A real small set, prepared by tensorflow-datasets itself, in memory and by index."""
    tiny_pictures()(data_dir=str(tmp_path), file_format=file_format).download_and_prepare()
    config.data.update(name="tiny_pictures", dir=str(tmp_path))
    config.image_size = 8
    with pytest.raises(UserError, match="no split 'test'.*Known: train"):
        load_dataset(config, "test")
    memory = load_dataset(config, "train")
    assert memory.image_shape == (8, 8, 1)
    assert sorted(memory.arrays["image"][:, 0, 0, 0]) == [20 * i for i in range(12)]
    np.testing.assert_array_equal(memory.arrays["label"], memory.arrays["image"][:, 0, 0, 0] // 20 % 3)
    config.data.memory_limit = 10
    if file_format == "tfrecord":
        with pytest.raises(UserError, match="stored as tfrecord, which cannot be read by index"):
            load_dataset(config, "train")
        return
    streamed = load_dataset(config, "train[2:]")
    assert streamed.arrays is None and streamed.size == 10
    np.testing.assert_array_equal(streamed.read(np.array([3, 0]))["label"], memory.arrays["label"][[5, 2]])


def test_a_data_set_that_nobody_knows(config):
    config.data.name = "mnits"
    with pytest.raises(UserError, match="no data set 'mnits'.*Did you mean 'mnist'"):
        load_dataset(config, "train")


def test_no_network_is_said_quickly(tmp_path, config, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("socket.create_connection", refuse)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    config.data.update(name="mnist", dir=str(tmp_path))
    with pytest.raises(UserError, match="(?s)cannot be downloaded: no route.*mnist_5k.*IDX files"):
        load_dataset(config, "train")
