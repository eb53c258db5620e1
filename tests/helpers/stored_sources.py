"""The same images in every source that can be copied into shards."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.images import encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 10, 12, 3)).astype(np.uint8)


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


def shards_config(smoke, tmp_path: Path):
    """A config that reads shards in `tmp_path`/out."""
    config = smoke("losses_celeba")
    config.data.update(name="shards", dir=str(tmp_path / "out"), grey=False, crop="")
    config.image_size = 8
    return config


def source_and_output(tmp_path: Path) -> tuple[str, Path]:
    """A folder of images, and where its shards go."""
    as_folder(tmp_path / "in")
    return str(tmp_path / "in"), tmp_path / "out"


def states(output: Path) -> dict[str, tuple]:
    """When the files of a folder were changed, and their contents."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(output.iterdir())}
