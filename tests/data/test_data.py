"""Data from files and tensorflow-datasets, good and bad."""

import functools
import gzip
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.users import unprivileged
from ml_collections import ConfigDict
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.idx import read_idx
from vae_jax.errors import UserError


def idx_bytes(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """A small MNIST: train plain, test gzipped."""
    rng = np.random.default_rng(0)
    for prefix, n, zipped in (("train", 30, False), ("t10k", 11, True)):
        arrays = {"images-idx3": rng.integers(0, 256, (n, 28, 28)), "labels-idx1": np.arange(n) % 10}
        for kind, array in arrays.items():
            data = idx_bytes(array.astype(np.uint8))
            path = tmp_path / f"{prefix}-{kind}-ubyte"
            (path.with_name(path.name + ".gz") if zipped else path).write_bytes(gzip.compress(data) if zipped else data)
    return tmp_path


def refuse(*args, **kwargs):
    raise OSError("no route to host")


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
    with pytest.raises(UserError, match="has IDX files, but neither train-images-idx3-ubyte nor"):
        load_dataset(config, "train")
    zipped = idx_folder / "t10k-images-idx3-ubyte.gz"
    zipped.write_bytes(zipped.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged or truncated"):
        load_dataset(config, "test")


@pytest.mark.parametrize("closed", ["mnist", "mnist/train-images-idx3-ubyte", "celeb_a"])
def test_data_that_may_not_be_read(config, closed, monkeypatch):
    """What it is is said, and nothing is downloaded again."""
    monkeypatch.setattr("socket.create_connection", refuse)
    with tempfile.TemporaryDirectory() as root:
        for folder in ("mnist", "celeb_a"):
            os.mkdir(f"{root}/{folder}")
        Path(root, "mnist/train-images-idx3-ubyte").write_bytes(b"")
        faces = closed == "celeb_a"
        config.data.update(name="celeb_a" if faces else "mnist", dir=root if faces else f"{root}/mnist")
        with pytest.raises(UserError):  # as root, for what is imported only when it is used
            load_dataset(config, "train")
        os.chmod(root, 0o755)
        os.chmod(f"{root}/{closed}", 0)
        with unprivileged(), pytest.raises((UserError, PermissionError), match="Permission denied") as error:
            load_dataset(config, "train")
        assert f"{root}/{closed}" in str(error.value) and "download" not in str(error.value)


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


def test_the_first_of_each_class(idx_folder, config):
    """Of the training split only; with slices, attributes and a class that is too small."""
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


def test_labels_out_of_range(idx_folder, config):
    config.data.update(name="mnist", dir=str(idx_folder))
    with pytest.raises(UserError, match="labels from 0 to 9; expected 0 to 8"):
        load_dataset(classifier(config, 9), "train")


def test_crop_of_arrays_of_the_right_size(idx_folder, config):
    config.data.update(name="mnist", dir=str(idx_folder), crop="4,5,20,20")
    cropped = load_dataset(config, "test").arrays["image"][0, :, :, 0]
    whole = Image.fromarray(read_idx(idx_folder / "t10k-images-idx3-ubyte.gz")[0])
    expected = whole.resize((28, 28), Image.Resampling.BICUBIC, box=(5, 4, 25, 24))
    np.testing.assert_array_equal(cropped, np.asarray(expected))


def classifier(config, classes: int):
    config = ConfigDict(config.to_dict())
    config.classes = classes
    return config


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
    with pytest.raises(UserError, match="tiny_pictures has labels from 0 to 2; expected 0 to 1"):
        load_dataset(classifier(config, 2), "train")
    streamed = load_dataset(classifier(config, 3), "train[2:]")
    assert streamed.arrays is None and streamed.size == 10
    np.testing.assert_array_equal(streamed.read(np.array([3, 0]))["label"], memory.arrays["label"][[5, 2]])


def test_an_unknown_data_set(config):
    config.data.name = "mnits"
    with pytest.raises(UserError, match="Unknown data set 'mnits'.*Did you mean 'mnist'"):
        load_dataset(config, "train")


def test_a_missing_network_is_reported_quickly(tmp_path, config, monkeypatch):
    monkeypatch.setattr("socket.create_connection", refuse)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    config.data.update(name="mnist", dir=str(tmp_path))
    with pytest.raises(UserError, match="(?s)cannot be downloaded: no route.*mnist_5k.*IDX files"):
        load_dataset(config, "train")
