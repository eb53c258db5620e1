"""Which files of a folder are read: each once, no hidden ones, none missing in silence."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.users import unprivileged
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.folders import files_below
from vae_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Three cats and two dogs to train on, one dog to test on, 8x8; the folder lies below a hidden one."""
    for split, name, count in (("train", "cat", 3), ("train", "dog", 2), ("test", "dog", 1)):
        for i in range(count):
            save(tmp_path / ".cache" / "pets" / split / name / f"{i}.png", i)
    return tmp_path / ".cache" / "pets"


@pytest.fixture
def config(smoke, folder):
    config = smoke("vae_mnist")
    config.data.update(name="image_folder", dir=str(folder))
    config.image_size = 8
    return config


def save(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def labels_of(config, split: str) -> list[int]:
    return load_dataset(config, split).arrays["label"].tolist()


def test_hidden_names_are_left_out_and_counted(folder, config, capsys):
    for name in ("train/.ipynb_checkpoints/0.png", "train/__MACOSX/cat/0.png", "test/.dog/0.png", "train/cat/.0.png",
                 "train/cat/.thumbs/0.png"):  # fmt: skip
        save(folder / name)
    (folder / "train" / "cat" / "._0.png").write_bytes(b"of macOS")
    train = load_dataset(config, "train")
    assert train.classes == ("cat", "dog") and labels_of(config, "train") == [0, 0, 0, 1, 1]
    assert labels_of(config, "test") == [1]
    hidden = [".ipynb_checkpoints", "__MACOSX", "cat/.0.png", "cat/._0.png", "cat/.thumbs"]
    assert train.notes["left out"] == {"hidden": {"number": 5, "such as": hidden}}
    assert "/train: Left out: hidden, 5 (.ipynb_checkpoints, __MACOSX, cat/.0.png, ...)." in capsys.readouterr().out
    with pytest.raises(UserError, match="Known: test, train"):
        (folder / ".trial").mkdir()
        load_dataset(config, "validation")


def test_every_extension_that_pillow_reads(folder, config, capsys):
    """The others are counted by extension, the commonest first."""
    for name in ("a.jfif", "b.avif", "c.PGM", "d.webp", "e.mpo"):
        (folder / "test" / "dog" / name).write_bytes((folder / "test" / "dog" / "0.png").read_bytes())
    for name in ("a.eps", "a.heic", "b.heic", "a.pdf", "a.mpg", "README"):
        (folder / "test" / "dog" / name).write_bytes(b"")
    test = load_dataset(config, "test")
    assert test.size == 6 and test.notes["unreadable"] == {}
    assert test.notes["left out"] == {
        "not images by their extension": {"number": 6, "such as": [".heic", "README", ".eps", ".mpg", ".pdf"]}
    }
    assert "not images by their extension, 6 (.heic, README, .eps, ...)." in capsys.readouterr().out


def test_folders_without_images_are_no_classes(folder, config):
    (folder / "train" / "about").mkdir()
    (folder / "train" / "about" / "labels.csv").write_text("")
    assert load_dataset(config, "train").classes == ("cat", "dog")


def test_every_folder_is_entered_once(folder, config, capsys):
    """Links to the folder itself, above it, to a class of this split, in a ring, and to themselves; others count."""
    train, elsewhere = folder / "train", folder.parent / "elsewhere"
    save(elsewhere / "in" / "0.png")
    (elsewhere / "in" / "up").symlink_to(elsewhere)
    for name, target in (("a", "."), ("b", ".."), ("bird", elsewhere / "in"), ("c", "cat"), ("d", "/"), ("e", "e")):
        (train / name).symlink_to(target)
    (train / "cat" / "up").symlink_to("..")
    (folder / "test" / "cat").symlink_to(train / "cat")
    dataset = load_dataset(config, "train")
    assert dataset.classes == ("bird", "cat", "dog")
    np.testing.assert_array_equal(dataset.arrays["label"], [0, 1, 1, 1, 2, 2])
    assert labels_of(config, "test") == [1, 1, 1, 2]
    again = dataset.notes["left out"]["links to folders that are read already"]
    assert again == {"number": 6, "such as": ["a", "b", "bird/up", "c", "cat/up", "d"]}
    assert "links to folders that are read already, 6 (a, b, bird/up, ...)" in capsys.readouterr().out
    (train / "cat").rename(train / "zoo")  # the folder itself is read, not an earlier link to it
    (train / "c").unlink()
    (train / "c").symlink_to("zoo")
    assert load_dataset(config, "train").classes == ("bird", "dog", "zoo")


@pytest.mark.parametrize("mode", [0o000, 0o644])
@pytest.mark.parametrize("name", ["train", "train/cat", "train/cat/deep", "train/link"])
def test_folders_that_cannot_be_read_are_named(config, name, mode):
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for file in ("train/cat/deep/0.png", "train/dog/0.png", "private/cat/0.png"):
            save(Path(root, file))
        Path(root, "train/link").symlink_to("../private/cat")
        config.data.dir, closed = root, Path(root, "private" if name == "train/link" else name)
        closed.chmod(mode)
        with unprivileged(), pytest.raises(UserError, match=f"The folder {root}/{name} cannot be read: Permission"):
            load_dataset(config, "train")
        closed.chmod(0o755)


def test_files_that_cannot_be_read_are_listed(config):
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for i in range(4):
            save(Path(root, f"train/{i}.png"))
        config.data.dir = root
        Path(root, "train/1.png").chmod(0)
        with unprivileged():
            train = load_dataset(config, "train")
        assert train.size == 3 and "Permission denied" in train.notes["unreadable"]["1.png"]


NAMES = ("*", "?", "a:b", "#", "%20", "[0]", "new\nline", "über 木", "no utf \udcff", "'\"", "~", "$x", "-")


def test_odd_names(folder, config):
    """Of classes and of files."""
    for name in NAMES:
        save(folder / "train" / name / f"{name}.png")
        save(folder / "test" / name / f"{name}.PNG")
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert train.classes == test.classes == tuple(sorted((*NAMES, "cat", "dog")))
    assert train.size == 5 + len(NAMES) and test.size == 1 + len(NAMES)


def test_files_are_sorted_by_path(tmp_path):
    for name in ("b/1.png", "b.png", "a/b/2.png", "a/b.png", "a-1/0.png", "c.png"):
        save(tmp_path / name)
    files = files_below(tmp_path).files
    assert files == [str(path) for path in sorted(map(Path, files))] and len(files) == 6
