"""Shards survive stops and damage, and are refused when they are not whole or not of their source."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.commands import run
from helpers.images import encoded
from helpers.stored_sources import PIXELS, as_archives, shards_config, source_and_output, states
from helpers.users import unprivileged

from vae_jax import shards
from vae_jax.data import load_dataset
from vae_jax.data.shard_files import read_manifest
from vae_jax.errors import UserError
from vae_jax.shards import make_shards, verify_shards


@pytest.fixture
def config(smoke, tmp_path):
    return shards_config(smoke, tmp_path)


@pytest.fixture
def folder(tmp_path):
    return source_and_output(tmp_path)


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


def test_two_at_once(folder):
    folder[1].mkdir()
    with shards._alone(folder[1]), pytest.raises(UserError, match="is being written by another process"):
        make_shards("image_folder", *folder, ["train"], 7)


def test_killed_and_started_again(folder, config):
    """A real kill -9, after the first shard."""
    flags = [f"--dir={folder[0]}", f"--output={folder[1]}", "--splits=train", "--images_per_shard=1"]
    line = [sys.executable, "-m", "vae_jax.shards", "--source=image_folder", *flags]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not [*folder[1].glob("*-of-00024.array_record")]:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert run("vae_jax.shards", "--source=image_folder", *flags).returncode == 0
    verify_shards(folder[1], ["train"])
    assert load_dataset(config, "train").size == 24 and not [*folder[1].glob("*.part")]


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
