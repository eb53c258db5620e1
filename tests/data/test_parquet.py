"""Images in Parquet files, as the Hugging Face hub keeps them: columns, labels, shards, and what is broken."""

import json
import os

import cloudpickle
import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from helpers.images import encoded

from vae_jax.data import examples_in_both, load_dataset, parquet_source
from vae_jax.data.parquet_source import parquet_images
from vae_jax.errors import UserError

pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)


FILES = [encoded(pixels) for pixels in PIXELS]
STRUCTS = [{"bytes": data, "path": "same.png"} for data in FILES]


def write(path, names=(), rows=100, **columns) -> None:
    """A file of such columns; names: of the classes of `label`, as the library `datasets` writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names:
        features = {"label": {"names": [*names], "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=rows)


@pytest.fixture
def config(smoke, tmp_path):
    config = smoke("vae_mnist")
    config.data.update(name="parquet", dir=str(tmp_path), grey=True)
    config.image_size = 8
    return config


@pytest.mark.parametrize("name", ["image", "img", "picture"])
@pytest.mark.parametrize("cells", [FILES, STRUCTS])
def test_columns_of_images(cells, name, config, tmp_path):
    write(
        tmp_path / "train.parquet", rows=7, **{"number": [*range(30)], name: cells, "label": [i % 3 for i in range(30)]}
    )
    train = load_dataset(config, "train")
    assert (train.size, train.classes) == (30, ()) and train.labels.tolist() == [i % 3 for i in range(30)]
    np.testing.assert_array_equal(train.arrays["image"][..., 0], PIXELS)
    assert train.notes["left out"] == {} and train.notes["folder"] == str(tmp_path / "train.parquet")


@pytest.mark.parametrize("below", ["", "data"])
def test_shards_with_names_of_classes(below, config, tmp_path):
    """In the order of their numbers and rows; a row group is read once."""
    for shard in range(3):
        part = slice(10 * shard, 10 * shard + 10)
        labels = [shard] * 10
        write(tmp_path / below / f"train-0000{shard}-of-00003.parquet", "xyz", 4, image=STRUCTS[part], label=labels)
    write(tmp_path / below / "test.parquet", "xyz", image=STRUCTS[:2], label=[2, 0])
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    np.testing.assert_array_equal(train.arrays["image"][..., 0], PIXELS)
    assert train.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10 and test.labels.tolist() == [2, 0]
    assert train.classes == test.classes == ("x", "y", "z") and examples_in_both(config, train, test) == 0
    parquet_source._row_group.cache_clear()
    images = parquet_images(str(tmp_path), "train", ())
    assert [images.open(name).read() for name in images.names] == FILES
    assert parquet_source._row_group.cache_info().misses == 9
    os.remove(tmp_path / below / "train-00001-of-00003.parquet")
    with pytest.raises(UserError, match="has 2 of the 3 shards that their names count: number 1 is missing"):
        load_dataset(config, "train")


def test_labels_of_text_are_those_of_all_splits(config, tmp_path):
    write(tmp_path / "train.parquet", image=FILES[:3], labels=pa.array(["dog", "cat", "dog"]).dictionary_encode())
    write(tmp_path / "test.parquet", image=FILES[:2], labels=["dog", "ant"])
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert train.classes == test.classes == ("ant", "cat", "dog")
    assert train.labels.tolist() == [2, 1, 2] and test.labels.tolist() == [2, 0]


def test_what_is_no_label(config, tmp_path, capsys):
    write(tmp_path / "train.parquet", image=FILES[:2], label=[[1, 2], [3]])
    write(tmp_path / "test.parquet", image=FILES[:2], label=[-1, -1])
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    assert train.labels is None and test.labels is None
    assert "labels that are neither whole numbers nor text, 1 (label: list<" in capsys.readouterr().out
    assert test.notes["left out"] == {}


def test_broken_images_are_left_out(config, tmp_path):
    config.data.unreadable = 0.5
    cells = [*STRUCTS[:4], {"bytes": b"broken", "path": None}, {"bytes": None, "path": "gone.png"}, None]
    write(tmp_path / "train.parquet", image=cells, label=[*range(7)])
    train = load_dataset(config, "train")
    assert train.labels.tolist() == [0, 1, 2, 3] and train.notes["unreadable"] == {
        "000004": "UnidentifiedImageError: no image that can be read",
        "000005": "ValueError: its row has no bytes, only the path gone.png",
        "000006": "ValueError: its row has no image",
    }
    config.data.unreadable = 0.25
    with pytest.raises(UserError, match="3 of the 7 images in .*train.parquet cannot be read"):
        load_dataset(config, "train")


MISTAKES = {
    "no column": ({"label": [1]}, r"has no column of encoded images; .* Its columns are label \(int64\)"),
    "no bytes": ({"image": ["a.png"]}, "has no column of encoded images"),
    "two columns": ({"image": FILES[:1], "img": FILES[:1]}, "has several columns of encoded images"),
    "two others": ({"a": FILES[:1], "b": FILES[:1]}, "has several columns .* called 'image' or 'img'"),
    "no label": ({"image": FILES[:2], "label": [1, None]}, "1 of its 2 rows have no label"),
    "no text": ({"image": FILES[:2], "label": ["a", None]}, "1 of its 2 rows have no label"),
    "negative": ({"image": FILES[:2], "label": [1, -1]}, "has labels from -1 to 1; expected 0 to 2,147,483,647"),
    "large": ({"image": FILES[:2], "label": [0, 2**31]}, "has labels from 0 to 2147483648"),
    "unnamed": ({"image": FILES[:2], "label": [0, 2], "names": "ab"}, "expected 0 to 1, as it has the names of 2"),
    "empty": ({"image": pa.array([], pa.binary())}, "No images in .*train.parquet"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_such_file(mistake, config, tmp_path):
    columns, words = MISTAKES[mistake]
    write(tmp_path / "train.parquet", **columns)
    with pytest.raises(UserError, match=words):
        load_dataset(config, "train")


def test_shards_that_differ(config, tmp_path):
    write(tmp_path / "train-0.parquet", image=FILES[:1], label=[0])
    write(tmp_path / "train-1.parquet", img=FILES[:1], label=[0])
    with pytest.raises(UserError, match="train-1.parquet has other columns of images .* than .*train-0.parquet"):
        load_dataset(config, "train")


def test_which_files_are_the_split(config, tmp_path):
    config.data.dir = ""
    with pytest.raises(UserError, match="parquet needs a folder"):
        load_dataset(config, "train")
    config.data.dir = str(tmp_path)
    write(tmp_path / "data" / "test.parquet", image=FILES[:1])
    with pytest.raises(UserError, match="has no split 'train'; expected train.parquet .* It has data/test.parquet"):
        load_dataset(config, "train")
    write(tmp_path / "test.parquet", image=FILES[:1])
    with pytest.raises(UserError, match="has data/test.parquet, test.parquet: which of them is the split 'test'"):
        load_dataset(config, "test")


@pytest.mark.parametrize("damage", ["cut", "empty", "another", "within"])
def test_damaged_files(damage, config, tmp_path):
    file = tmp_path / "train.parquet"
    write(file, rows=10, image=FILES, label=[*range(30)])
    data = bytearray(file.read_bytes())
    if damage == "within":  # the header of the page of the first row group
        start = pq.ParquetFile(file).metadata.row_group(0).column(0).data_page_offset
        data[start : start + 20] = b"\xff" * 20
    file.write_bytes({"cut": data[:-30], "empty": b"", "another": b"no table" * 9, "within": data}[damage])
    words = "10 of the 30 images .*row group 0 cannot be read" if damage == "within" else "train.parquet cannot be read"
    with pytest.raises(UserError, match=f"(?s){words}"):
        load_dataset(config, "train")


def test_a_file_that_changes(config, tmp_path):
    """It is read again at another start, and refused while it is in use."""
    file = tmp_path / "train.parquet"
    write(file, image=FILES[:3])
    opened = parquet_images(str(tmp_path), "train", ()).open
    write(file, image=FILES[3:6])
    os.utime(file, ns=(5, 5))
    with pytest.raises(OSError, match="was changed while it was in use"):
        opened("000001")
    np.testing.assert_array_equal(load_dataset(config, "train").arrays["image"][..., 0], PIXELS[3:6])


def test_reading_can_be_sent_to_other_processes(tmp_path):
    write(tmp_path / "train.parquet", rows=10, image=FILES)
    opened = cloudpickle.loads(cloudpickle.dumps(parquet_images(str(tmp_path), "train", ()).open))
    assert [opened(f"{i:06}").read() for i in (29, 0, 15)] == [FILES[i] for i in (29, 0, 15)]


def test_larger_than_memory(config, tmp_path):
    config.data.memory_limit = 0
    write(tmp_path / "train.parquet", image=FILES)
    with pytest.raises(
        UserError, match=rf"cannot be read by index.*\n.*-m vae_jax.shards --source=parquet --dir={tmp_path}"
    ):
        load_dataset(config, "train")


def test_without_the_package(config, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vae_jax\[parquet\]'"):
        load_dataset(config, "train")


def test_through_the_command(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00001.parquet", rows=7, image=STRUCTS, label=[i % 2 for i in range(30)])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", image=STRUCTS[:5], label=[0, 1, 0, 1, 0])
    flags = ("--config=losses_celeba:l2,smoke", "--config.data.name=parquet", f"--config.data.dir={tmp_path}")
    done = run("vae_jax.main", *flags, f"--workdir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "30 images to train on, 5 to evaluate" in done.stdout
    assert_mistake(run("vae_jax.main", *flags, f"--workdir={tmp_path}/no", "--config.data.eval=val"), "no split 'val'")
