"""Slices of splits: what is in them, what two of them share, and labels that a system does not have."""

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import examples_in_both, load_dataset
from vae_jax.data.contract import Dataset, in_memory, with_labels_below
from vae_jax.data.slices import parse_split
from vae_jax.errors import UserError
from vae_jax.train import train

COUNTS = {"ant": 10, "bee": 5, "cow": 1, "doe": 20}


@pytest.fixture
def config(smoke):
    return smoke("vae_mnist")


@pytest.fixture(params=[10**9, 10], ids=["in memory", "streamed"])
def folder(request, tmp_path, config):
    """The config of class folders; each image has its own value."""
    values = iter(range(100))
    for name, count in COUNTS.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), next(values), np.uint8)).save(tmp_path / f"train/{name}/{i:02}.png")
    config.data.update(name="image_folder", dir=str(tmp_path), memory_limit=request.param)
    config.image_size = 8
    return config


def values_of(dataset: Dataset) -> np.ndarray:
    return dataset.read(np.arange(dataset.size))["image"][:, 0, 0, 0]


@pytest.mark.parametrize(
    "split, bounds",
    [("train", (0, 60)), ("train[:50]", (0, 50)), ("train[50:]", (50, 60)), ("train[90%:]", (54, 60)),
     ("train[-10:]", (50, 60)), ("train[10:1000]", (10, 60))],
)  # fmt: skip
def test_slices(split, bounds):
    base, function = parse_split(split)
    assert base == "train" and function(60) == bounds


def test_slices_that_are_wrong_or_empty(config):
    with pytest.raises(UserError, match="Cannot parse the split"):
        parse_split("train[5]")
    with pytest.raises(UserError, match="is empty"):
        load_dataset(config, "train[1000:]")


@pytest.mark.parametrize("cut", ["80%", "50%", "-4", "1", "20"])
def test_slices_of_class_folders_have_every_class(folder, cut):
    """In proportion; two that meet share nothing and have everything, in the order of the whole."""
    parts = [load_dataset(folder, split) for split in (f"train[:{cut}]", f"train[{cut}:]")]
    first, second = map(values_of, parts)
    assert sorted([*first, *second]) == list(range(sum(COUNTS.values())))
    assert (np.diff(first) > 0).all() and (np.diff(second) > 0).all()
    for part in parts:
        counts = np.bincount(part.read(np.arange(part.size))["label"], minlength=4)
        np.testing.assert_allclose(counts, part.size / 36 * np.array([*COUNTS.values()]), atol=1)
        np.testing.assert_array_equal(part.labels, part.read(np.arange(part.size))["label"])


def test_slices_of_the_digits_of_mnist_5k(config):
    """They lie in the order of their labels."""
    config.data.name = "mnist_5k"
    np.testing.assert_array_equal(np.bincount(load_dataset(config, "train[:3000]").arrays["label"]), [300] * 10)


@pytest.mark.parametrize(
    "train, judged, per_class, both",
    [("train", "train", 0, 36), ("train", "train[:50%]", 0, 18), ("train[:80%]", "train[70%:]", 0, 4),
     ("train[:80%]", "train[80%:]", 0, 0), ("train", "train[:4]", 1, 3)],
)  # fmt: skip
def test_examples_in_both_splits(folder, train, judged, per_class, both):
    folder.data.update(train=train, eval=judged, per_class=per_class)
    splits = [load_dataset(folder, split) for split in (train, judged)]
    assert examples_in_both(folder, *splits) == both
    assert per_class or len({*values_of(splits[0])} & {*values_of(splits[1])}) == both


def test_a_link_to_the_training_images_is_the_training_images(folder, tmp_path):
    (tmp_path / "test").symlink_to("train")
    assert examples_in_both(folder, load_dataset(folder, "train"), load_dataset(folder, "test")) == 36


def test_training_on_what_is_judged_is_told(config, tmp_path, monkeypatch, capsys):
    class End(Exception):
        pass

    def end(*args):
        raise End

    monkeypatch.setattr("vae_jax.train.prepare", end)
    for judged, told in (("test", 0), ("train[:9]", 1)):
        config.data.eval = judged
        with pytest.raises(End):
            train(config, str(tmp_path / "run"))
        message = "warning: 9 of the 9 images to evaluate are trained on as well: data.train is 'train', data.eval is"
        assert capsys.readouterr().out.count(message) == told


def test_exemplars_are_judged_on_what_they_are_trained_on(smoke):
    config = smoke("exemplar_cnn")
    splits = load_dataset(config, config.data.train, augmented=True), load_dataset(config, config.data.eval)
    assert examples_in_both(config, *splits) == 0


def test_labels_that_the_system_does_not_have(smoke, folder, tmp_path):
    """Refused before training, in memory or not, in either split."""
    config = smoke("classifier_mnist")
    config.data.update(folder.data)
    config.update(image_size=8, classes=4)
    (tmp_path / "test" / "emu").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "test" / "emu" / "0.png")
    assert load_dataset(config, "train").size == 36
    with pytest.raises(UserError, match="image_folder has labels from 0 to 4; expected 0 to 3"):
        train(config, str(tmp_path / "run"))
    config.classes = 3
    with pytest.raises(UserError, match="image_folder has labels from 0 to 3; expected 0 to 2"):
        load_dataset(config, "train")
    assert not (tmp_path / "run").exists()


def test_labels_that_are_known_when_they_are_read():
    """As of a streamed set that does not say how many it has."""
    whole = in_memory(np.zeros((6, 2, 2, 1), np.uint8), np.array([0, 1, 2, 3, -1, 0]))
    streamed = with_labels_below(Dataset(6, (2, 2, 1), whole.read), 3, "pets")
    assert streamed.read(np.array([2, 5]))["label"].tolist() == [2, 0]
    for index, low, high in ((3, 0, 3), (4, -1, 0)):
        with pytest.raises(UserError, match=f"pets has labels from {low} to {high}; expected 0 to 2"):
            streamed.read(np.array([0, index]))
