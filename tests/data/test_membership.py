"""Files that break while a run lasts have stand-ins, the same after it was resumed; other changes are told."""

import shutil

import numpy as np
import pytest
from helpers.processes import assert_same_state, finish, streamed_images
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.membership import files_before, members
from vae_jax.data.reading import read_ahead
from vae_jax.errors import UserError


@pytest.fixture
def config(smoke, tmp_path, monkeypatch):
    """Ten images that are streamed, each of the colour of its place."""
    config = smoke("vae_mnist")
    config.data.update(name="image_folder", dir=str(tmp_path), memory_limit=0, unreadable=0.25, train="train")
    config.image_size = 8
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(10):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / split / f"{i}.png")
    return config


def values(dataset) -> list[int]:
    (rows,) = read_ahead(dataset, lambda call: np.arange(dataset.size), 1)
    np.testing.assert_array_equal(dataset.read(np.arange(dataset.size))["image"], rows["image"])
    return rows["image"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_next_one_stands_in(workers, config, tmp_path, capsys):
    config.data.workers = workers
    dataset = load_dataset(config, "train")
    (tmp_path / "train" / "3.png").write_bytes(b"broken")
    (tmp_path / "train" / "9.png").unlink()
    assert values(dataset) == [0, 1, 2, 4, 4, 5, 6, 7, 8, 0]
    told = capsys.readouterr().out
    assert f"{tmp_path}/train/3.png can no longer be read: UnidentifiedImageError" in told
    assert "the next one stands in for it (2 of 10)" in told and told.count("3.png") == 1
    (tmp_path / "train" / "4.png").unlink()
    with pytest.raises(UserError, match=r"3 of 10 images can no longer be read, .*\(0.25\)(.|\n)*Is the disk there"):
        values(dataset)


def test_slices_have_stand_ins_of_their_own(config, tmp_path):
    last = load_dataset(config, "train[-3:]")
    (tmp_path / "train" / "9.png").unlink()
    config.data.unreadable = 0.5
    assert values(load_dataset(config, "train[:9]")) == [*range(9)]
    with pytest.raises(UserError, match="1 of 3 images"):
        values(last)


def test_a_disk_that_is_gone(config, tmp_path):
    dataset = load_dataset(config, "train")
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(UserError, match="can no longer be read"):
        values(dataset)


def test_who_is_a_member(config, tmp_path):
    """With the list of the first start a broken file keeps its place; not without it, nor with other changes."""
    before = load_dataset(config, "train").files
    assert [*before.names] == [f"{i}.png" for i in range(10)]
    (tmp_path / "train" / "3.png").write_bytes(b"broken")
    assert values(load_dataset(config, "train")) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    resumed = load_dataset(config, "train", before=before)
    assert values(resumed) == [0, 1, 2, 4, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(resumed.files.sizes, before.sizes)
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "train" / "new.png")
    assert load_dataset(config, "train", before=before).size == 10  # nine of them and the new one
    assert members(resumed, None) is resumed and files_before(tmp_path / "nothing.npz") is None


@pytest.mark.slow
def test_a_run_whose_files_change(tmp_path):
    """A file that breaks between two starts stands aside, whether the run is resumed once or twice; added, removed and
    changed ones are named, and refused until --accept_new_data."""
    flags = streamed_images(tmp_path / "data")
    run, train = tmp_path / "run", tmp_path / "data" / "train"
    finish(run, *flags, "--config.steps=3")
    for name in ("007.png", "030.png"):
        (train / name).write_bytes((train / name).read_bytes()[:200])
    shutil.copytree(run, tmp_path / "twice")
    output = finish(run, *flags)
    assert "resuming from step 3" in output and "7.png can no longer be read" in output
    finish(tmp_path / "twice", *flags, "--config.steps=5")
    finish(tmp_path / "twice", *flags, "--config.data.workers=2")
    assert_same_state(run, tmp_path / "twice")

    (train / "001.png").unlink()
    shutil.copy(train / "002.png", train / "new.png")
    Image.new("L", (50, 40)).save(train / "004.png")
    more = (*flags, "--config.steps=10")
    refused = finish(run, *more, code=2)
    for line in (
        "train:\n  added: 1 (new.png)\n",
        "removed: 3 (001.png, 007.png, 030.png)\n",
        "changed: 1 (004.png)\n",
    ):
        assert line in refused
    assert "--accept_new_data" in refused
    assert "goes on with other data than before" in finish(run, *more, "--accept_new_data")
    finish(run, *flags, "--config.steps=12")  # its list is the new one
