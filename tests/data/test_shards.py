"""Shards hold what their source holds, and the commands that make and read them."""

import json
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from helpers.stored_sources import FILES, PIXELS, SOURCES, shards_config, source_and_output, states

from vae_jax import shards
from vae_jax.data import COPIED, DATASETS, load_dataset, shards_source
from vae_jax.data.shard_files import read_record
from vae_jax.errors import UserError
from vae_jax.shards import make_shards, verify_shards


@pytest.fixture
def config(smoke, tmp_path):
    return shards_config(smoke, tmp_path)


@pytest.fixture
def folder(tmp_path):
    return source_and_output(tmp_path)


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize("name", SOURCES)
def test_shards_are_their_source(name, limit, config, tmp_path):
    """Images, order, labels and classes, at a size and crop of the config's; the last shard is not full."""
    SOURCES[name](tmp_path / "in")
    make_shards(name, str(tmp_path / "in"), tmp_path / "out", ["train", "test"], 7)
    source = config.copy_and_resolve_references()
    source.data.update(name=name, dir=str(tmp_path / "in"))
    config.data.memory_limit = limit
    for split in ("train", "test"):
        theirs, ours = load_dataset(source, split), load_dataset(config, split)
        assert (ours.size, ours.classes, ours.arrays is None) == (theirs.size, theirs.classes, limit == 0)
        batch = ours.read(np.arange(ours.size))
        for key, values in theirs.read(np.arange(theirs.size)).items():
            np.testing.assert_array_equal(batch.pop(key), values)
        assert not batch
    assert len([*(tmp_path / "out").glob("train-*-of-00004.array_record")]) == 4


def test_every_source_is_tried_here():
    assert {*SOURCES, "mnist_5k", "fashion_mnist"} == COPIED.keys()
    assert DATASETS.keys() - COPIED.keys() == {"synthetic", "exemplars", "shards"}


def test_digits_of_a_package(config, tmp_path):
    config.data.grey = True
    make_shards("mnist_5k", "", tmp_path / "out", ["test"], 600)
    source = config.copy_and_resolve_references()
    source.data.update(name="mnist_5k", dir="")
    theirs, ours = load_dataset(source, "test"), load_dataset(config, "test")
    for key, values in theirs.arrays.items():
        np.testing.assert_array_equal(ours.arrays[key], values)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_tensorflow_datasets(file_format, config, tmp_path, capsys):
    tfds = pytest.importorskip("tensorflow_datasets")
    name = f"coloured_{file_format}"

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(shape=(10, 12, 3)), "label": tfds.features.ClassLabel(names="xyz")}
            features |= {"attributes": {"odd": np.bool_}}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, pixels in enumerate(PIXELS):
                yield i, {"image": pixels, "label": i % 3, "attributes": {"odd": i % 2 == 1}}

    Builder.name = name
    builder = Builder(data_dir=str(tmp_path), file_format=file_format)
    builder.download_and_prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds, "builder", lambda *_, **__: builder)
        make_shards(name, str(tmp_path), tmp_path / "out", ["train"], 10)
        assert "Left out: other features, 1 (attributes)." in capsys.readouterr().out
        (tmp_path / "out" / "train-00001-of-00003.array_record").unlink()
        make_shards(name, str(tmp_path), tmp_path / "out", ["train"], 10)
        source = config.copy_and_resolve_references()
        source.data.update(name=name, dir=str(tmp_path))
        theirs, ours = load_dataset(source, "train"), load_dataset(config, "train")
        assert ours.classes == theirs.classes == ("x", "y", "z")
        for key, values in theirs.arrays.items():
            np.testing.assert_array_equal(ours.arrays[key], values)
        with pytest.raises(UserError, match="has no split 'test'. Known: train"):
            make_shards(name, str(tmp_path), tmp_path / "out", ["test"], 10)


def test_files_are_copied_byte_by_byte(folder):
    make_shards("image_folder", *folder, ["train"], 100)
    (shard,) = folder[1].glob("train-*.array_record")
    for row, (name, data) in enumerate(sorted(FILES.items())):
        about, content = read_record(shard, row)
        assert about == {"name": name, "label": "ab".index(name[0])} and content == data
    about = json.loads((folder[1] / "train.json").read_text())
    assert (about["images"], about["classes"], about["source"]["dir"]) == (24, ["a", "b"], folder[0])


def test_the_same_command_does_nothing_more(folder, monkeypatch, capsys):
    make_shards("image_folder", *folder, ["train", "test"], 7)
    before = states(folder[1])
    monkeypatch.setattr(shards, "write_shard", lambda *_: pytest.fail("a shard was written"))
    make_shards("image_folder", *folder, ["train", "test"], 7)
    assert states(folder[1]) == before and len(before) == 4 + 1 + 2 + 1
    verify_shards(folder[1], ["train", "test"])
    assert "train: 24 images" in capsys.readouterr().out and states(folder[1]) == before


def test_classes_are_those_of_all_splits_that_are_copied(config, folder):
    make_shards("image_folder", *folder, ["train"], 7)
    assert load_dataset(config, "train").classes == ("a", "b")
    with pytest.raises(UserError, match=r"or labels \(as the splits were train then, and are train,test now\)"):
        make_shards("image_folder", *folder, ["train", "test"], 7)
    (folder[1] / "train.json").unlink()
    make_shards("image_folder", *folder, ["train", "test"], 7)
    assert load_dataset(config, "train").classes == load_dataset(config, "test").classes == ("a", "b", "c")


def test_the_box_of_a_source_is_said(config, folder, monkeypatch):
    """CelebA's faces, which training by that name cuts out."""
    make_shards("image_folder", *folder, ["train"], 7)
    manifest = json.loads((folder[1] / "train.json").read_text())
    manifest["source"]["name"] = "celeb_a:2.0.1"
    (folder[1] / "train.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="--config.data.crop=40,30,138,138, or another"):
        load_dataset(config, "train")
    config.data.crop = "square"
    assert load_dataset(config, "train").size == 24


def test_sent_to_other_processes_and_read_by_threads(folder):
    make_shards("image_folder", *folder, ["train"], 7)
    images, _ = shards_source._images(folder[1], "train")
    packed = cloudpickle.dumps(images.open)
    opened, expected = cloudpickle.loads(packed), [FILES[name] for name in sorted(FILES)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: opened(name).read(), [*images.names] * 30)) == expected * 30
    assert len(packed) < 1000 and len({*map(tuple, images.marks.tolist())}) == 24


def test_progress(folder, monkeypatch, capsys):
    monkeypatch.setattr(shards, "TOLD_EVERY", -1.0)
    make_shards("image_folder", *folder, ["train"], 7)
    assert "train: 20 of 24 images, " in (told := capsys.readouterr().err) and "images/s, 4 shards in all" in told
    make_shards("image_folder", *folder, ["train"], 7)
    assert "train: checked 4 of 4 shards" in capsys.readouterr().err


# ---- the command ---------------------------------------------------------------------------------------------------


def command(folder, *flags: str):
    return run("vae_jax.shards", "--source=image_folder", f"--dir={folder[0]}", f"--output={folder[1]}", *flags)


def test_through_the_commands(folder, tmp_path):
    done = command(folder, "--images_per_shard=10")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == f"read them with --config.data.name=shards --config.data.dir={folder[1]}"
    flags = ("--config=losses_celeba:l2,smoke", *last.split()[3:], "--config.data.memory_limit=0")
    trained = run("vae_jax.main", *flags, f"--workdir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    assert "24 images to train on, 2 to evaluate" in trained.stdout
    (folder[1] / "train-00001-of-00003.array_record").unlink()
    told = run("vae_jax.shards", f"--output={folder[1]}", "--verify")
    assert_mistake(told, "number 1 is missing", f"--dir={folder[0]}", "--images_per_shard=10")
    repair = told.stderr.splitlines()[-1].split()[3:]
    assert run("vae_jax.shards", *repair).returncode == 0
    assert run("vae_jax.shards", f"--output={folder[1]}", "--verify").returncode == 0


def test_mistakes(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert_mistake(run("vae_jax.shards", f"--output={folder[1]}"), "--source=... is missing.")
    assert_mistake(run("vae_jax.shards", "--source=image_folder"), "--output=... is missing")
    assert_mistake(command(folder, "--source=image_foldr"), "Did you mean 'image_folder'?")
    assert_mistake(command(folder, "--source=synthetic"), "synthetic cannot be copied. Known: mnist, ")
    assert_mistake(
        run("vae_jax.shards", "--source=image_folder", f"--output={folder[1]}"),
        "image_folder needs a folder: set --dir=DIR",
    )
    assert_mistake(command(folder, "--splits=train,val"), "(--dir) has no folder 'val'")
    assert_mistake(command(folder, "--splits=train[:5]"), "expected names of whole splits")
    assert_mistake(command(folder, "--images_per_shard=0"), "images_per_shard")
    assert_mistake(command((folder[0], tmp_path / "file" / "out")), "Not a directory", "Choose another folder")
    assert_mistake(run("vae_jax.shards", f"--output={tmp_path}", "--verify"), "has no shards of the split 'train'")
