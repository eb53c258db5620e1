"""Attributes of images, from any data set: never in a batch, sliced like their split, in memory and streamed."""

import functools

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.contract import central_window, in_memory, take

FACES = ("Young", "5_o_Clock_Shadow", "Smiling")  # not sorted, as in CelebA


def true_of(i: int) -> list[bool]:
    return [i % 2 == 0, i < 3, i % 3 == 1]


@functools.cache  # a name can be registered once
def tiny_faces():
    """A small CelebA: attributes and landmarks, no label."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyFaces(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(10, 8, 3), encoding_format="png"),
                "landmarks": {"nose_x": np.int64},
                "attributes": dict.fromkeys(FACES, np.bool_),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(12):
                image = np.full((10, 8, 3), 20 * i, np.uint8)
                attributes = dict(zip(FACES, true_of(i), strict=True))
                yield i, {"image": image, "landmarks": {"nose_x": i}, "attributes": attributes}

    return TinyFaces


@functools.cache
def tiny_pets():
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyPets(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(6):
                yield i, {"image": np.full((8, 8, 1), 20 * i, np.uint8), "label": i % 2}

    return TinyPets


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_attributes_of_tensorflow_datasets(tmp_path, smoke, file_format):
    tiny_faces()(data_dir=str(tmp_path), file_format=file_format).download_and_prepare()
    config = smoke("vae_mnist")
    config.data.update(name="tiny_faces", dir=str(tmp_path))
    config.image_size = 8
    whole = load_dataset(config, "train")
    assert set(whole.arrays) == {"image"} and set(whole.read(np.arange(2))) == {"image"}
    names, values = whole.attributes()
    numbers = whole.arrays["image"][:, 0, 0, 0] // 20  # the set is stored shuffled
    assert names == FACES and values.dtype == bool
    np.testing.assert_array_equal(values, [true_of(i) for i in numbers])
    np.testing.assert_array_equal(load_dataset(config, "train[3:9]").attributes().values, values[3:9])
    if file_format == "array_record":
        config.data.memory_limit = 10
        streamed = load_dataset(config, "train[3:]")
        assert streamed.arrays is None and set(streamed.read(np.arange(2))) == {"image"}
        assert streamed.attributes().names == FACES
        np.testing.assert_array_equal(streamed.attributes().values, values[3:])


def test_class_names_of_tensorflow_datasets(tmp_path, smoke):
    tiny_pets()(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    config = smoke("vae_mnist")
    config.data.update(name="tiny_pets", dir=str(tmp_path))
    config.image_size = 8
    for limit in (10_000, 10):
        config.data.memory_limit = limit
        dataset = load_dataset(config, "train[1:]")
        names, values = dataset.attributes()
        assert names == dataset.classes == ("cat", "dog")
        labels = dataset.read(np.arange(5))["label"]
        np.testing.assert_array_equal(values, np.stack([labels == 0, labels == 1], axis=1))


@pytest.mark.parametrize("limit", [10_000, 10])
def test_class_folders(tmp_path, smoke, limit):
    for split, name, count in (("train", "cat", 3), ("train", "dog", 2), ("test", "dog", 4)):
        (tmp_path / split / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / split / name / f"{i}.png")
    config = smoke("vae_mnist")
    config.data.update(name="image_folder", dir=str(tmp_path), memory_limit=limit)
    config.image_size = 8
    part = load_dataset(config, "train[1:4]")
    names, values = part.attributes()
    assert names == part.classes == central_window(part, 4).classes == ("cat", "dog")
    np.testing.assert_array_equal(values, [[True, False], [False, True], [False, True]])  # the first and last are cats
    names, values = load_dataset(config, "test").attributes()
    assert names == ("cat", "dog") and values.shape == (4, 2)
    np.testing.assert_array_equal(values.all(axis=0), [False, True])  # dogs, even without cats


def test_classes_without_names_are_numbered():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    names, values = take(in_memory(images, np.array([2, 0, 2, 1])), 1, 4).attributes()
    assert names == ("0", "1", "2")
    np.testing.assert_array_equal(values, np.eye(3)[[0, 2, 1]])
    assert in_memory(images).attributes is None and take(in_memory(images), 1, 2).attributes is None


def test_images_outside_class_folders_have_no_attributes(tmp_path, smoke):
    (tmp_path / "train").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "train" / "0.png")
    config = smoke("vae_mnist")
    config.data.update(name="image_folder", dir=str(tmp_path))
    config.image_size = 8
    dataset = load_dataset(config, "train")
    assert dataset.attributes is None and dataset.classes == ()
