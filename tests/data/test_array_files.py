"""Images from .npy and .npz files: in memory or read from disk, and what is no such file."""

import numpy as np
import pytest
from helpers.commands import run

from vae_jax.data import examples_in_both, load_dataset
from vae_jax.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 10, 8, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3


@pytest.fixture
def config(smoke, tmp_path):
    config = smoke("losses_celeba")
    config.data.update(name="array_files", dir=str(tmp_path), crop="none", grey=False)
    config.image_size = 8
    return config


def test_in_memory_and_from_disk_are_the_same(config, tmp_path):
    np.save(tmp_path / "train.npy", IMAGES[:, :8])
    whole = load_dataset(config, "train")
    config.data.memory_limit = 0
    from_disk = load_dataset(config, "train")
    assert whole.arrays is not None and from_disk.arrays is None
    assert whole.size == from_disk.size == 12 and from_disk.labels is None
    for dataset in (whole, from_disk):
        np.testing.assert_array_equal(dataset.read(np.array([1, 5]))["image"], IMAGES[[1, 5], :8])
    assert load_dataset(config, "train[:50%]").size == 6


@pytest.mark.parametrize("limit", [0, 10**9])
def test_labels_and_floats(config, tmp_path, limit):
    """A float in [0, 1] is the nearest of 256; labels are those of the file, in slices too."""
    config.data.memory_limit = limit
    np.savez(tmp_path / "train.npz", images=(IMAGES / 255).astype(np.float32), labels=LABELS)
    dataset = load_dataset(config, "train[6:]")
    batch = dataset.read(np.array([0, 4]))
    np.testing.assert_array_equal(batch["label"], [0, 1])
    np.testing.assert_array_equal(dataset.attributes().values[:, 1], LABELS[6:] == 1)
    config.image_size = 10
    config.data.crop = "pad"
    padded = load_dataset(config, "train[6:]").read(np.array([0]))["image"]
    np.testing.assert_array_equal(padded[0, :, 1:9], IMAGES[6])


def test_grey_arrays_without_channels(config, tmp_path):
    config.data.grey = True
    np.savez(tmp_path / "test.npz", image=IMAGES[:, :8, :, 0].astype(np.float16) / 255)
    found = load_dataset(config, "test").arrays["image"]
    assert found.shape == (12, 8, 8, 1) and np.abs(found[..., 0].astype(int) - IMAGES[:, :8, :, 0]).max() <= 1


MISTAKES = {
    "no file": ({}, "There is neither .*train.npy nor .*train.npz"),
    "another name": ({"pictures": IMAGES}, "has the arrays pictures; expected one called 'images'"),
    "integers": ({"images": IMAGES.astype(np.int64)}, r"has images of int64 \[12, 10, 8, 3\]; expected uint8"),
    "five axes": ({"images": IMAGES[None]}, r"has images of uint8 \[1, 12, 10, 8, 3\]"),
    "channels": ({"images": IMAGES[..., :2]}, "1 or 3"),
    "out of range": ({"images": IMAGES.astype(np.float32)}, r"has values in \[0, 255\]; expected floats in \[0, 1\]"),
    "not finite": ({"images": np.full((2, 8, 8), np.nan)}, r"has values in \[nan, nan\]"),
    "labels": ({"images": IMAGES, "labels": LABELS[:3]}, "has 12 images, but 3 labels"),
    "numbers": ({"images": IMAGES, "labels": LABELS + 2**32}, "has labels from 4294967296"),
    "no width": ({"images": np.zeros((3, 8, 0, 3), np.uint8)}, r"uint8 \[3, 8, 0, 3\]"),
    "words": ({"images": IMAGES, "labels": np.array(["a"] * 12)}, "has labels of <U1"),
    "objects": ({"images": np.array([IMAGES, None], object)}, "cannot be read: Object arrays"),
    "empty": ({"images": IMAGES[:0]}, "is empty"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_such_file(mistake, config, tmp_path):
    arrays, words = MISTAKES[mistake]
    if arrays:
        np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(UserError, match=words):
        load_dataset(config, "train")


@pytest.mark.parametrize("name", ["train.npy", "train.npz"])
@pytest.mark.parametrize("content", [b"", b"not an array", "half"])
def test_damaged_files(name, content, config, tmp_path):
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, IMAGES)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2] if content == "half" else content)
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        load_dataset(config, "train")


def test_splits_share_no_examples(config, tmp_path):
    for name in ("train", "test"):
        np.save(tmp_path / f"{name}.npy", IMAGES[:, :8])
    config.data.update(train="train", eval="test")
    assert examples_in_both(config, load_dataset(config, "train"), load_dataset(config, "test")) == 0
    config.data.eval = "train[:50%]"
    assert examples_in_both(config, load_dataset(config, "train"), load_dataset(config, "train[:50%]")) == 6


@pytest.mark.parametrize("name", ["train.npy", "train.npz"])
def test_the_one_called_the_other(name, config, tmp_path):
    with open(tmp_path / name, "wb") as file:
        np.savez(file, images=IMAGES) if name.endswith("npy") else np.save(file, IMAGES)
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        load_dataset(config, "train")


def test_through_the_command(tmp_path):
    """Trained on a .npz, judged on a .npy; a value out of range in one that is read from disk ends the run in words."""
    np.savez(tmp_path / "train.npz", images=np.tile(IMAGES, (3, 1, 1, 1)))
    np.save(tmp_path / "test.npy", IMAGES)
    flags = ("--config=losses_celeba:l2,smoke", "--config.data.name=array_files", f"--config.data.dir={tmp_path}")
    done = run("vae_jax.main", *flags, f"--workdir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "36 images to train on, 12 to evaluate" in done.stdout and (tmp_path / "run" / "report.html").is_file()
    np.save(tmp_path / "test.npy", IMAGES / 100)
    wrong = run("vae_jax.main", *flags, f"--workdir={tmp_path}/other", "--config.data.memory_limit=0")
    assert wrong.returncode == 2 and "has values in [0, 2.55]; expected floats in [0, 1]" in wrong.stderr
