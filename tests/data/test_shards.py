"""Shards hold what their source holds, survive stops and damage, and are refused when they are not whole."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.commands import assert_mistake, run
from helpers.users import unprivileged
from PIL import Image

from vae_jax import shards
from vae_jax.data import COPIED, DATASETS, load_dataset, shards_source
from vae_jax.data.shard_files import read_manifest, read_record
from vae_jax.errors import UserError
from vae_jax.shards import make_shards, verify_shards

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 10, 12, 3)).astype(np.uint8)


def encoded(pixels, kind="PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


FILES = {f"{'ab'[i % 2]}/{i:02}.jpg": encoded(pixels, "JPEG") for i, pixels in enumerate(PIXELS)}


def as_folder(folder: Path) -> None:
    for split, files in (("train", FILES), ("test", {"b/0.png": encoded(PIXELS[0]), "c/1.png": encoded(PIXELS[1])})):
        for name, data in files.items():
            (folder / split / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / split / name).write_bytes(data)


def as_archives(folder: Path) -> None:
    folder.mkdir()
    for split in ("train", "test"):
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)


def as_parquet(folder: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    for split in ("train", "test"):
        table = pa.table({"image": list(FILES.values()), "label": [name[0] for name in FILES]})
        pq.write_table(table, folder / f"{split}.parquet", row_group_size=5)


def as_hugging_face(folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hugging_face is not installed")
    datasets.disable_progress_bars()
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [{"bytes": data, "path": None} for data in FILES.values()], "label": [i % 2 for i in range(24)]}
    one = datasets.Dataset.from_dict(rows, features=kinds)
    datasets.DatasetDict(train=one, test=one).save_to_disk(str(folder))


def as_arrays(folder: Path) -> None:
    folder.mkdir()
    np.savez(folder / "train.npz", images=(PIXELS / 255).astype(np.float32), labels=np.arange(24) % 3)
    np.save(folder / "test.npy", PIXELS[..., 0])


def as_idx(folder: Path) -> None:
    folder.mkdir()
    for prefix in ("train", "t10k"):
        for kind, array in (("images-idx3", PIXELS[..., 0]), ("labels-idx1", np.arange(24, dtype=np.uint8) % 10)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(head + np.ascontiguousarray(array).tobytes())


SOURCES = {
    "image_folder": as_folder, "archives": as_archives, "parquet": as_parquet, "hugging_face": as_hugging_face,
    "array_files": as_arrays, "mnist": as_idx,
}  # fmt: skip


@pytest.fixture
def config(smoke, tmp_path):
    config = smoke("losses_celeba")
    config.data.update(name="shards", dir=str(tmp_path / "out"), grey=False, crop="")
    config.image_size = 8
    return config


@pytest.fixture
def folder(tmp_path):
    """A folder of images, and where its shards go."""
    as_folder(tmp_path / "in")
    return str(tmp_path / "in"), tmp_path / "out"


def states(output: Path) -> dict[str, tuple]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(output.iterdir())}


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


@pytest.mark.parametrize("damage", ["missing", "other byte", "cut", "left over"])
def test_what_is_damaged_is_made_again(damage, config, folder, capsys):
    make_shards("image_folder", *folder, ["train"], 7)
    before = states(folder[1])
    broken = folder[1] / "train-00002-of-00004.array_record"
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "missing":
        broken.unlink()
    elif damage == "left over":
        broken.rename(f"{broken}.part")
    else:
        broken.write_bytes(data if damage == "other byte" else data[:-9])
    with pytest.raises(UserError, match=r"(?s)1 of the 4 shards .* number 2 is .*--source=image_folder --dir=.*/in "):
        verify_shards(folder[1], ["train"])
    if damage != "other byte":
        with pytest.raises(UserError, match=r"(?s)train-00002-of-00004.array_record is (missing|of).*--source="):
            load_dataset(config, "train")
    capsys.readouterr()
    make_shards("image_folder", *folder, ["train"], 7)
    assert "train-00002-of-00004.array_record is" in capsys.readouterr().err
    after = states(folder[1])
    assert {name: content for name, (_, content) in after.items()} == {n: content for n, (_, content) in before.items()}
    assert [name for name in before if after[name][0] != before[name][0]] == [broken.name, "train.json"]


def test_a_stop_is_gone_on_from(folder, config, monkeypatch):
    """In the third shard; the first two are not written again, and until then nothing can be read."""
    make = shards.write_shard
    written = []

    def until_stopped(file, images):
        written.append(file.name)
        return make(file, stopped(images) if len(written) == 3 else images)

    def stopped(images):
        yield next(images)
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_shard", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        make_shards("image_folder", *folder, ["train"], 7)
    assert not [*folder[1].glob("*.part")]
    with pytest.raises(UserError, match=r"(?s)of the 4 shards of train, number 2 is not made yet.*images_per_shard=7"):
        load_dataset(config, "train")
    make_shards("image_folder", *folder, ["train"], 7)
    assert [name.split("-")[1] for name in written] == ["00000", "00001", "00002", "00002", "00003"]
    assert load_dataset(config, "train").size == 24


CHANGES = {
    "another": lambda folder: (folder / "train" / "a" / "new.png").write_bytes(encoded(PIXELS[0])),
    "fewer": lambda folder: (folder / "train" / "a" / "00.jpg").unlink(),
    "renamed": lambda folder: (folder / "train" / "a" / "00.jpg").rename(folder / "train" / "a" / "x.jpg"),
    "other labels": lambda folder: (folder / "train" / "b").rename(folder / "train" / "z"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_has_changed(change, folder):
    make_shards("image_folder", *folder, ["train"], 7)
    before = states(folder[1])
    CHANGES[change](Path(folder[0]))
    with pytest.raises(UserError, match="image_folder, split train, has changed since .*: 24 images then, 2[345] now"):
        make_shards("image_folder", *folder, ["train"], 7)
    assert states(folder[1]) == before


def test_classes_are_those_of_all_splits_that_are_copied(config, folder):
    make_shards("image_folder", *folder, ["train"], 7)
    assert load_dataset(config, "train").classes == ("a", "b")
    with pytest.raises(UserError, match=r"or labels \(as the splits were train then, and are train,test now\)"):
        make_shards("image_folder", *folder, ["train", "test"], 7)
    (folder[1] / "train.json").unlink()
    make_shards("image_folder", *folder, ["train", "test"], 7)
    assert load_dataset(config, "train").classes == load_dataset(config, "test").classes == ("a", "b", "c")


def test_a_source_that_moved(folder, tmp_path):
    make_shards("image_folder", *folder, ["train"], 7)
    moved = shutil.move(folder[0], tmp_path / "moved")
    (folder[1] / "train-00000-of-00004.array_record").unlink()
    make_shards("image_folder", str(moved), folder[1], ["train"], 7)
    assert read_manifest(folder[1], "train")["source"]["dir"] == str(moved)


def test_other_flags_for_the_same_folder(folder, tmp_path):
    make_shards("image_folder", *folder, ["train"], 7)
    with pytest.raises(UserError, match="have --images_per_shard=7, not 8"):
        make_shards("image_folder", *folder, ["train"], 8)
    as_archives(tmp_path / "zips")
    with pytest.raises(UserError, match="has shards of image_folder, split train, not of archives"):
        make_shards("archives", str(tmp_path / "zips"), folder[1], ["train"], 7)


def test_what_the_source_cannot_read(config, folder, capsys):
    """A broken image is copied as it is, and left out on reading; so is what has no content, such as a wrong sum."""
    config.data.unreadable = 0.5
    as_archives(Path(folder[0]) / "zips")
    file = Path(folder[0]) / "zips" / "train.zip"
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("b/x.jpg", b"broken")
        archive.writestr("b/y.jpg", b"a wrong sum of these bytes")
    file.write_bytes(file.read_bytes().replace(b"a wrong sum", b"A wrong sum"))
    make_shards("archives", str(file.parent), folder[1], ["train"], 10)
    assert "1 of them have no content, such as b/y.jpg: ValueError: its checksum" in capsys.readouterr().out
    for limit in (0, 10**9):
        config.data.memory_limit = limit
        train = load_dataset(config, "train")
        assert train.size == 24 and train.notes["unreadable"] == {
            "train-00002-of-00003.array_record/000004": "UnidentifiedImageError: no image that can be read",
            "train-00002-of-00003.array_record/000005": "ValueError: b/y.jpg: ValueError: its checksum is wrong",
        }


def test_a_source_that_fails_stops_the_copy(folder):
    """A file that may not be read would be missing for ever."""
    (Path(folder[0]) / "train" / "a" / "04.jpg").unlink()
    (Path(folder[0]) / "train" / "a" / "04.jpg").symlink_to("gone.jpg")
    with pytest.raises(UserError, match=r"(?s)a/04.jpg cannot be read: .*No such file.*remove it, and run the same"):
        make_shards("image_folder", *folder, ["train"], 7)
    assert sorted(path.name for path in folder[1].iterdir()) == ["lock"]


def test_manifests_that_cannot_be_used(config, folder):
    make_shards("image_folder", *folder, ["train"], 7)
    with pytest.raises(UserError, match=r"(?s)has no shards of the split 'test'.* It has train. .*--splits=test"):
        load_dataset(config, "test")
    file = folder[1] / "train.json"
    whole = file.read_text()
    for text in ("{", "[]", '{"version": 1}'):
        file.write_text(text)
        for do in (lambda: load_dataset(config, "train"), lambda: make_shards("image_folder", *folder, ["train"], 7)):
            with pytest.raises(UserError, match="train.json is no manifest of shards, or damaged. Delete it"):
                do()
    file.write_text(json.dumps(json.loads(whole) | {"version": 0}))
    with pytest.raises(UserError, match=r"(?s)is of version 0; expected 1.*vae_jax.shards --source=image_folder"):
        load_dataset(config, "train")
    make_shards("image_folder", *folder, ["train"], 7)
    assert file.read_text() == whole and load_dataset(config, "train").size == 24
    config.data.dir = ""
    with pytest.raises(UserError, match="shards needs a folder"):
        load_dataset(config, "train")


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


def test_two_at_once(folder):
    folder[1].mkdir()
    with shards._alone(folder[1]), pytest.raises(UserError, match="is being written by another process"):
        make_shards("image_folder", *folder, ["train"], 7)


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


def test_killed_and_started_again(folder, config):
    """A real kill -9, after the first shard."""
    flags = [f"--dir={folder[0]}", f"--output={folder[1]}", "--splits=train", "--images_per_shard=1"]
    line = [sys.executable, "-m", "vae_jax.shards", "--source=image_folder", *flags]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not [*folder[1].glob("*-of-00024.array_record")]:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert command(folder, "--splits=train", "--images_per_shard=1").returncode == 0
    verify_shards(folder[1], ["train"])
    assert load_dataset(config, "train").size == 24 and not [*folder[1].glob("*.part")]


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


def test_a_folder_that_may_not_be_written(folder):
    folder[1].mkdir(mode=0o555)
    os.chmod(folder[1].parent, 0o755)
    with unprivileged(), pytest.raises(PermissionError):
        make_shards("image_folder", *folder, ["train"], 7)


def test_a_full_disk(folder):
    """No file may be larger than 100 kB: a shard that does not fit is told, leaves nothing, and is gone on with."""
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        (Path(folder[0]) / "train" / "a" / f"n{i}.png").write_bytes(encoded(noise))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"array_record.part cannot be written: .*File too large.*Free some disk"):
            make_shards("image_folder", *folder, ["train"], 30)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*folder[1].glob("*.part")] and not [*folder[1].glob("*.array_record")]
    make_shards("image_folder", *folder, ["train"], 30)
    verify_shards(folder[1], ["train"])
