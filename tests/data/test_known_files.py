"""Starts after the first look at those files only that are new or changed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import image_set, known_files, load_dataset
from vae_jax.data.known_files import marks_of, unreadable


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_JAX_INDEX", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture
def config(smoke, tmp_path):
    """Two classes of five images to train on, larger than what may be held in memory."""
    config = smoke("vae_mnist")
    config.data.update(name="image_folder", dir=str(tmp_path / "data"), memory_limit=0, unreadable=0.5)
    config.image_size = 8
    for split, name, count in (("train", "a", 5), ("train", "b", 5), ("test", "a", 1)):
        for i in range(count):
            save(tmp_path / "data" / split / name / f"{i}.png", 20 * i)
    return config


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


@pytest.fixture
def looked_at(monkeypatch):
    """The names of the files that were read, in any order."""
    names, read = [], image_set.read_image

    def counted(path, convert):
        names.append(path.name)
        return read(path, convert)

    monkeypatch.setattr(image_set, "read_image", counted)
    return names


def load(config, looked_at) -> tuple[list[str], object]:
    looked_at.clear()
    dataset = load_dataset(config, "train")
    return sorted(looked_at), dataset


def test_a_second_start_reads_what_has_changed(config, index, looked_at, tmp_path, capsys):
    train = tmp_path / "data" / "train"
    seen, first = load(config, looked_at)
    assert len(seen) == 10 and first.size == 10 and first.arrays is None
    seen, second = load(config, looked_at)
    assert seen == [] and second.notes == first.notes
    np.testing.assert_array_equal(second.read(np.arange(10))["image"], first.read(np.arange(10))["image"])
    assert f"{train}: 10 files as before, 0 to look at" in capsys.readouterr().err

    save(train / "a" / "new.png", 7)
    save(train / "a" / "1.png", 99)
    (train / "b" / "2.png").write_bytes(b"broken")
    (train / "b" / "3.png").unlink()
    os.utime(train / "b" / "0.png", ns=(1, 1))
    seen, third = load(config, looked_at)
    assert seen == ["0.png", "1.png", "2.png", "new.png"] and third.size == 9
    assert [*third.notes["unreadable"]] == ["b/2.png"] and third.read(np.arange(2))["image"][1].mean() == 99
    assert load(config, looked_at)[0] == ["2.png"]  # it may be readable by now
    save(train / "b" / "2.png", 1)
    assert load(config, looked_at)[1].size == 10


def test_another_way_of_reading_is_another_index(config, index, looked_at):
    load(config, looked_at)
    for change in ({"crop": "0,0,4,4"}, {"resize": "box"}, {"grey": not config.data.grey}):
        config.data.update(change)
        assert len(load(config, looked_at)[0]) == 10 and load(config, looked_at)[0] == []
    assert len([*index.iterdir()]) == 4


@pytest.mark.parametrize("what", ["truncated", "empty", "another version"])
def test_a_broken_index_is_made_again(what, config, index, looked_at, capsys, monkeypatch):
    load(config, looked_at)
    (file,) = index.iterdir()
    if what == "another version":
        monkeypatch.setattr(known_files, "VERSION", 2)
    else:
        file.write_bytes(b"" if what == "empty" else file.read_bytes()[:-30])
    capsys.readouterr()
    assert len(load(config, looked_at)[0]) == 10
    assert ("this index cannot be read and is made again" in capsys.readouterr().err) == (what != "another version")
    assert load(config, looked_at)[0] == []


def test_without_a_place_for_the_index(config, looked_at, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_JAX_INDEX", str(tmp_path / "file" / "index"))
    for _ in range(2):
        assert len(load(config, looked_at)[0]) == 10
    assert "this index cannot be written, so that every start reads all files" in capsys.readouterr().err


def test_a_first_start_that_is_stopped_goes_on(index, tmp_path, monkeypatch):
    """What was found by the last save is not looked at again."""
    names = [f"{i}.png" for i in range(40)]
    for name in names:
        (tmp_path / name).write_text("")
    marks, seen = marks_of(tmp_path, names), []
    monkeypatch.setattr(known_files, "SAVED_EVERY", -1.0)

    def check(name: str) -> str | None:
        if name == "30.png" and not seen:
            raise KeyboardInterrupt
        return "odd" if name == "3.png" else None

    with pytest.raises(KeyboardInterrupt):
        unreadable(tmp_path, names, marks, "", check)
    found = unreadable(tmp_path, names, marks, "", lambda name: seen.append(name) or check(name))
    assert found == {"3.png": "odd"} and sorted(seen) == sorted(["3.png", *names[30:]])


def test_odd_names_are_remembered(index, tmp_path):
    names = sorted(["new\nline", "über 木", "no utf \udcff", "a/b", " "])
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / name).write_text("")
    marks = marks_of(tmp_path, names)
    assert (marks[:, 0] == 0).all() and (marks_of(tmp_path, ["gone"]) == -1).all()
    assert unreadable(tmp_path, names, marks, "", lambda name: None) == {}
    assert unreadable(tmp_path, names, marks, "", lambda name: "asked again") == {}
