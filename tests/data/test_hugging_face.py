"""Images in folders that the library `datasets` saved: in memory and streamed, labels, and what is broken."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from helpers.images import encoded

from vae_jax.data import examples_in_both, hugging_face_source, load_dataset
from vae_jax.data.hugging_face_source import hugging_face_images
from vae_jax.errors import UserError

datasets = pytest.importorskip("datasets", reason="the extra hugging_face is not installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)


FILES = [encoded(pixels) for pixels in PIXELS]
CELLS = [{"bytes": data, "path": None} for data in FILES]


@pytest.fixture(autouse=True)
def silent():
    datasets.disable_progress_bars()


def made(cells=CELLS, labels=None, names=("x", "y", "z")):
    """A Dataset of images and labels, by default i % 3."""
    labels = [i % 3 for i in range(len(cells))] if labels is None else labels
    kinds = {"image": datasets.Image()}
    if labels and isinstance(labels[0], int):
        kinds["label"] = datasets.ClassLabel(names=[*names])
    else:
        kinds["label"] = datasets.Value("string")
    return datasets.Dataset.from_dict({"image": cells, "label": labels}, features=datasets.Features(kinds))


def save(folder, **splits) -> None:
    datasets.DatasetDict(splits).save_to_disk(str(folder))


@pytest.fixture
def config(smoke, tmp_path):
    config = smoke("vae_mnist")
    config.data.update(name="hugging_face", dir=str(tmp_path / "saved"), grey=True)
    config.image_size = 8
    return config


@pytest.mark.parametrize("limit", [0, 10**9])
def test_in_memory_and_streamed(limit, config, tmp_path):
    """In the order that was saved, which need not be that of the files."""
    order = np.random.default_rng(1).permutation(30)
    made().select(order).save_to_disk(str(tmp_path / "saved" / "train"), num_shards=3)
    made(CELLS[:4]).save_to_disk(str(tmp_path / "saved" / "test"))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    config.data.memory_limit = limit
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert (train.size, test.size, train.arrays is None) == (30, 4, limit == 0)
    batch = train.read(np.arange(30))
    np.testing.assert_array_equal(batch["image"][..., 0], PIXELS[order])
    np.testing.assert_array_equal(batch["label"], order % 3)
    assert train.classes == test.classes == ("x", "y", "z") and examples_in_both(config, train, test) == 0


def test_labels_of_text_are_those_of_all_splits(config, tmp_path):
    save(tmp_path / "saved", train=made(CELLS[:3], ["dog", "cat", "dog"]), test=made(CELLS[:2], ["dog", "ant"]))
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert train.classes == test.classes == ("ant", "cat", "dog")
    assert train.labels.tolist() == [2, 1, 2] and test.labels.tolist() == [2, 0]
    save(tmp_path / "other", train=made(CELLS[:2], ["dog", "cat"]), test=made(CELLS[:2]).remove_columns("label"))
    config.data.dir = str(tmp_path / "other")
    assert load_dataset(config, "train").classes == ("cat", "dog") and load_dataset(config, "test").labels is None


def test_a_set_without_splits(config, tmp_path):
    """Is the split that it was loaded as, or train; a part of it can be judged."""
    made().save_to_disk(str(tmp_path / "saved"))
    assert load_dataset(config, "train[:24]").size == 24
    with pytest.raises(UserError, match=r"has no split 'test'.*Known: train.*A part of it is .*: train\[90%:\]"):
        load_dataset(config, "test")


@pytest.mark.parametrize("limit", [0, 10**9])
def test_broken_images_are_left_out(limit, config, tmp_path):
    config.data.update(unreadable=0.5, memory_limit=limit)
    cells = [*CELLS[:3], {"bytes": b"broken", "path": None}, None]
    save(tmp_path / "saved", train=made(cells))
    train = load_dataset(config, "train")
    assert train.labels.tolist() == [0, 1, 2] and train.notes["unreadable"] == {
        "000003": "UnidentifiedImageError: no image that can be read",
        "000004": "ValueError: its row has no image",
    }


def test_images_outside_of_the_table_are_saved_with_it(config, tmp_path):
    """As the library does."""
    (tmp_path / "0.png").write_bytes(FILES[0])
    save(tmp_path / "saved", train=made([str(tmp_path / "0.png")]))
    (tmp_path / "0.png").unlink()
    np.testing.assert_array_equal(load_dataset(config, "train").arrays["image"][0, ..., 0], PIXELS[0])


def test_sent_to_other_processes_and_read_by_threads(tmp_path):
    save(tmp_path / "saved", train=made())
    images = hugging_face_images(str(tmp_path / "saved"), "train", ())
    packed = cloudpickle.dumps(images.open)
    assert len(packed) < 1000 and images.marks[:, 0].tolist() == [len(data) for data in FILES]
    opened, names = cloudpickle.loads(packed), images.names * 20
    hugging_face_source._load.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: opened(name).read(), names)) == FILES * 20


def test_a_set_that_is_saved_again_is_read_again(config, tmp_path):
    config.data.memory_limit = 0
    for place in (0, 3):
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        save(tmp_path / "saved", train=made(CELLS[place : place + 3]))
        batch = load_dataset(config, "train").read(np.arange(3))
        np.testing.assert_array_equal(batch["image"][..., 0], PIXELS[place : place + 3])


def cut(tmp_path) -> None:
    file = tmp_path / "saved" / "train" / "data-00000-of-00001.arrow"
    os.truncate(file, file.stat().st_size - 8)


MISTAKES = {
    "no folder": (lambda path: shutil.rmtree(path / "saved"), "needs a folder .*save_to_disk.*There is no folder"),
    "other files": (
        lambda path: (path / "saved" / "dataset_dict.json").unlink(),
        "has neither dataset_dict.json nor state.json.*data.name=parquet",
    ),
    "no json": (lambda path: (path / "saved" / "dataset_dict.json").write_text("{"), "saved cannot be read"),
    "no split": (
        lambda path: (path / "saved" / "dataset_dict.json").write_text('{"splits": ["val", "test"]}'),
        "has no split 'train'. Known: test, val.",
    ),
    "no state": (lambda path: (path / "saved" / "train" / "state.json").unlink(), "train has no state.json"),
    "no table": (
        lambda path: (path / "saved" / "train" / "data-00000-of-00001.arrow").unlink(),
        "train cannot be read",
    ),
    "empty table": (
        lambda path: (path / "saved" / "train" / "data-00000-of-00001.arrow").write_bytes(b""),
        "train cannot be read",
    ),
    "cut": (cut, "train cannot be read: data-00000-of-00001.arrow is cut off"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_such_folder(mistake, config, tmp_path):
    save(tmp_path / "saved", train=made())
    assert load_dataset(config, "train").size == 30
    damage, words = MISTAKES[mistake]
    damage(tmp_path)
    hugging_face_source._load.cache_clear()
    with pytest.raises(UserError, match=f"(?s){words}"):
        load_dataset(config, "train")


def test_columns_that_are_none(config, tmp_path):
    save(tmp_path / "saved", train=made().rename_column("image", "a").add_column("b", FILES))
    with pytest.raises(UserError, match="has several columns of encoded images"):
        load_dataset(config, "train")
    save(tmp_path / "saved", test=made().remove_columns("image"))
    with pytest.raises(UserError, match="has no column of encoded images"):
        load_dataset(config, "test")


def test_without_the_package(config, monkeypatch):
    monkeypatch.setattr(hugging_face_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vae_jax\[hugging_face\]'"):
        load_dataset(config, "train")


def test_through_the_command(tmp_path):
    save(tmp_path / "saved", train=made(), test=made(CELLS[:5]))
    flags = ("--config=losses_celeba:l2,smoke", "--config.data.name=hugging_face")
    there = (f"--config.data.dir={tmp_path}/saved", "--config.data.memory_limit=0")
    done = run("vae_jax.main", *flags, *there, f"--workdir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "30 images to train on, 5 to evaluate" in done.stdout
    assert_mistake(run("vae_jax.main", *flags, f"--workdir={tmp_path}/no"), "save_to_disk('DIR')")
