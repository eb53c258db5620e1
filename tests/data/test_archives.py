"""Images in zip and tar archives give what the unpacked folder gives."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from helpers.commands import run
from PIL import Image

from vae_jax.data import load_dataset
from vae_jax.data.contract import fingerprint
from vae_jax.errors import UserError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(value).integers(0, 256, (8, 8)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = {f"{name}/{i}.png": png(10 * i + len(name)) for name, count in (("cat", 3), ("horse", 2)) for i in range(count)}
OTHERS = {"readme.txt": b"", ".hidden/0.png": png(0), "__MACOSX/cat/._0.png": b"of macOS"}


def pack(path, files, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.mkdir("cat") if hasattr(archive, "mkdir") else None
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, options.get("mode", "w")) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def config(smoke, tmp_path):
    config = smoke("vae_mnist")
    config.data.update(name="archives", dir=str(tmp_path / "packed"), grey=True)
    config.image_size = 8
    return config


@pytest.fixture
def folder(config, tmp_path):
    """The same images unpacked, as image_folder reads them."""
    for name, data in (FILES | OTHERS).items():
        (tmp_path / "unpacked" / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / "train" / name).write_bytes(data)
    unpacked = config.copy_and_resolve_references()
    unpacked.data.update(name="image_folder", dir=str(tmp_path / "unpacked"))
    return load_dataset(unpacked, "train")


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("train.zip", {}),
        ("train.zip", {"compression": zipfile.ZIP_DEFLATED}),
        ("train.tar", {}),
        ("train-000.tar", {}),
    ],
)
def test_an_archive_is_the_folder(name, options, limit, config, folder, tmp_path, capsys):
    pack(tmp_path / "packed" / name, FILES | OTHERS, **options)
    config.data.memory_limit = limit
    packed = load_dataset(config, "train")
    assert (packed.size, packed.classes, packed.arrays is None) == (5, folder.classes, limit == 0)
    for key, values in folder.read(np.arange(5)).items():
        np.testing.assert_array_equal(packed.read(np.arange(5))[key], values)
    assert "not images by their extension, 1 (.txt)" in capsys.readouterr().out
    assert {reason: note["number"] for reason, note in packed.notes["left out"].items()} == {
        "hidden": 2, "not images by their extension": 1,
    }  # fmt: skip


def test_shards_and_labels_in_files(config, tmp_path):
    """As webdataset writes them: a key, its image and its .cls, in as many tars as there are."""
    for shard in range(3):
        samples = {}
        for i in range(2):
            samples |= {f"{shard}_{i}.png": png(shard + i), f"{shard}_{i}.cls": str(10 - shard).encode()}
        pack(tmp_path / "packed" / f"train-{shard:06}.tar", samples)
    train = load_dataset(config, "train")
    assert train.labels.tolist() == [10, 10, 9, 9, 8, 8] and train.classes == () and train.notes["left out"] == {}
    pack(tmp_path / "packed" / "train-000003.tar", {"a.png": png(0), "a.cls": b"cat"})
    with pytest.raises(UserError, match=r"train-000003.tar: .*a.cls is no label; expected digits"):
        load_dataset(config, "train")


def test_classes_are_those_of_all_splits(config, tmp_path):
    pack(tmp_path / "packed" / "train.tar", FILES)
    pack(tmp_path / "packed" / "test.zip", {"bird/0.png": png(0), "cat/0.png": png(1)})
    assert load_dataset(config, "test").classes == load_dataset(config, "train").classes == ("bird", "cat", "horse")
    assert load_dataset(config, "test").labels.tolist() == [0, 1]


def test_broken_images_in_an_archive_are_left_out(config, tmp_path):
    config.data.unreadable = 0.5
    pack(tmp_path / "packed" / "train.zip", FILES | {"cat/x.png": b"broken"}, compression=zipfile.ZIP_DEFLATED)
    file = tmp_path / "packed" / "train.zip"
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("cat/1.png").header_offset
    data = bytearray(file.read_bytes())
    data[offset + 45 : offset + 80] = bytes(35)
    file.write_bytes(data)
    train = load_dataset(config, "train")
    assert train.size == 4 and sorted(train.notes["unreadable"]) == ["cat/1.png", "cat/x.png"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.zip", b"no zip", "train.zip cannot be read in place: File is not a zip file"),
        ("train.tar", b"no tar" * 200, "train.tar cannot be read in place"),
        ("train.tar", "gz", "train.tar cannot be read in place: .*compressed"),
        ("test.tar", b"", "no archive of the split 'train'; expected train.zip, train.tar or .* It has test.tar"),
        ("train.tar", {"readme.txt": b""}, "No images in .*train.tar"),
        ("train.tar", "truncated", "cannot be read"),
    ],
)
def test_what_is_no_such_archive(name, content, words, config, tmp_path):
    file = tmp_path / "packed" / name
    if isinstance(content, bytes):
        file.parent.mkdir()
        file.write_bytes(content)
    else:
        pack(file, content if isinstance(content, dict) else FILES, mode="w:gz" if content == "gz" else "w")
    if content == "truncated":
        os.truncate(file, 512 + 40)
    with pytest.raises(UserError, match=words):
        load_dataset(config, "train")


def test_an_archive_that_has_changed_is_read_again(config, tmp_path):
    config.data.memory_limit = 0
    for value in (1, 2):
        pack(tmp_path / "packed" / "train.zip", {f"{i}.png": png(value + i) for i in range(3)})
        with Image.open(io.BytesIO(png(value + 2))) as image:
            np.testing.assert_array_equal(load_dataset(config, "train").read(np.array([2]))["image"][0, ..., 0], image)


def test_through_the_command(tmp_path):
    pack(tmp_path / "train.zip", {f"{i}.png": png(i) for i in range(40)})
    pack(tmp_path / "test-0.tar", {f"{i}.png": png(i) for i in range(5)})
    flags = ("--config=losses_celeba:l2,smoke", "--config.data.name=archives", f"--config.data.dir={tmp_path}")
    done = run("vae_jax.main", *flags, f"--workdir={tmp_path}/run", "--config.data.memory_limit=0")
    assert done.returncode == 0, done.stderr
    assert "40 images to train on, 5 to evaluate" in done.stdout


def tar_of(path, names) -> list[int]:
    """A tar of so many pictures; where each begins."""
    pack(path, {name: png(i) for i, name in enumerate(names)})
    with tarfile.open(path) as archive:
        return [one.offset for one in archive]


NAMES = [f"{i}.png" for i in range(10)]


@pytest.mark.parametrize("damage", ["header", "cut", "another"])
def test_no_part_of_a_tar_is_passed_over(damage, config, tmp_path):
    file = tmp_path / "packed" / "train.tar"
    offsets = tar_of(file, NAMES)
    data = bytearray(file.read_bytes())
    if damage == "header":
        data[offsets[3] + 150] ^= 1
    file.write_bytes(data[: offsets[5]] if damage == "cut" else data * 2 if damage == "another" else data)
    with pytest.raises(UserError, match="train.tar cannot be read in place: (it is cut off|what follows byte)"):
        load_dataset(config, "train")


def test_links_in_a_tar_are_what_they_point_to(config, tmp_path):
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "train.tar", "w") as archive:
        info = tarfile.TarInfo("a/1.png")
        info.size = len(png(1))
        archive.addfile(info, io.BytesIO(png(1)))
        for name, kind, target in (
            ("a/2.png", tarfile.LNKTYPE, "a/1.png"), ("b/3.png", tarfile.SYMTYPE, "../a/1.png"),
            ("b/4.png", tarfile.SYMTYPE, "gone.png"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    train = load_dataset(config, "train")
    assert train.size == 3 and np.ptp(train.arrays["image"], axis=0).max() == 0 and train.classes == ("a", "b")
    assert train.notes["left out"]["links to nothing and files with holes"]["such as"] == ["b/4.png"]


def test_a_split_is_one_archive_or_its_shards(config, tmp_path):
    """train-val.zip is another split."""
    pack(tmp_path / "packed" / "train.zip", {"0.png": png(0)})
    pack(tmp_path / "packed" / "train-val.zip", {"0.png": png(0), "1.png": png(1)})
    assert load_dataset(config, "train").size == 1
    pack(tmp_path / "packed" / "train-000.zip", {"2.png": png(2)})
    with pytest.raises(UserError, match="has train.zip, train-000.zip: which of them is the split 'train'?"):
        load_dataset(config, "train")


def test_labels_for_some_images_only(config, tmp_path):
    whole = {"a.png": png(0), "a.cls": b"3", "b 1.0.png": png(1), "b 1.0.cls": b"4"}
    pack(tmp_path / "packed" / "train.tar", whole)
    assert load_dataset(config, "train").labels.tolist() == [3, 4]
    pack(tmp_path / "packed" / "test.tar", {"x/a.png": png(0)})
    with pytest.raises(UserError, match="train has labels in .cls files, but test has none"):
        load_dataset(config, "test")
    for changed, words in (({"a.cls": b"9" * 11}, "a.cls is no label"), ({"c.png": png(2)}, "c.png has no label")):
        pack(tmp_path / "packed" / "train.tar", whole | changed)
        with pytest.raises(UserError, match=words):
            load_dataset(config, "train")


def test_changes_are_noticed(config, tmp_path):
    """A wrong checksum is a broken image; other content of the same size is other data; so are other labels."""
    config.data.update(memory_limit=0, unreadable=0.5)
    file = tmp_path / "packed" / "train.zip"
    sums = []
    for value in (0, 1):
        pack(file, {f"{name}/0.ppm": b"P5 8 8 255 " + bytes([value * (name == "b")] * 64) for name in "abc"})
        sums.append(fingerprint(load_dataset(config, "train")))
    assert sums[0] != sums[1] and sums[0]["sha256 of all labels"] == sums[1]["sha256 of all labels"]
    data = file.read_bytes()
    first = load_dataset(config, "train")
    file.write_bytes(data.replace(bytes([1] * 64), bytes([2] * 64)))
    os.utime(file, ns=(5, 5))
    with pytest.raises(UserError, match="was changed while it was in use"):
        first.read(np.arange(3))
    assert load_dataset(config, "train").notes["unreadable"] == {"b/0.ppm": "ValueError: its checksum is wrong"}
