"""Images in a folder that the library `datasets` saved, read by index where they are."""

import contextlib
import functools
import importlib.util
import io
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.arrow_columns import content_of, find_columns, numbered
from vae_jax.data.contract import Dataset
from vae_jax.data.image_set import Images, image_set, other_splits
from vae_jax.data.stored import row_names
from vae_jax.errors import UserError, did_you_mean, unreadable_told

SETS, SET = "dataset_dict.json", "state.json"  # what `save_to_disk` of a DatasetDict and of a Dataset writes
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of Arrow's


def hugging_face(config: ConfigDict, split: str) -> Dataset:
    """Images of a folder that `datasets.DatasetDict.save_to_disk` wrote, or `Dataset.save_to_disk`, in their order.

    A set that is larger than memory is streamed from there. See `arrow_columns` for the columns. UserError for what is
    no such folder, or broken.
    """
    return image_set(config, hugging_face_images(config.data.dir, split, other_splits(config, split)))


def hugging_face_images(folder: str, split: str, others: Collection[str]) -> Images:
    """What `hugging_face` reads of a folder, with classes of that split and of `others`.

    An image is called by its row. Its marks are its size, and when the folder of its split was written.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError(
            "hugging_face needs the package datasets, which is not installed: pip install 'vae_jax[hugging_face]'"
        )
    place = _folder(folder, split)
    changed = os.stat(place / SET).st_mtime_ns
    data = _load(place, changed)
    columns = find_columns(data.features.arrow_schema, place)
    with _told(place):
        sizes = _sizes(_column(data, columns.image))
    labels, classes = None, ()
    if columns.label is not None:
        sets = (_loaded(folder, other) for other in others if columns.words and other in _splits(Path(folder)))
        theirs = (_column(one, columns.label) for one in sets if columns.label in one.column_names)
        labels, classes = numbered(columns, _column(data, columns.label), theirs, place)
    marks = np.stack([sizes, np.full(len(sizes), changed)], axis=1)
    content = functools.partial(_open, place, changed, columns.image)
    return Images(place, row_names(len(data)), marks, columns.left_out, content, labels, classes)


def _folder(folder: str, split: str) -> Path:
    """The folder of a split. One Dataset is the split that it was loaded as, or else 'train'."""
    root = Path(folder)
    if not folder or not root.is_dir():
        raise UserError(
            "hugging_face needs a folder (data.dir) that the library datasets saved. Where there is a network, write "
            f"one with\n  python -c \"import datasets; datasets.load_dataset('NAME').save_to_disk('DIR')\"\nand set "
            f"--config.data.dir=DIR.{f' There is no folder {root}.' if folder else ''}"
        )
    splits = _splits(root)
    if not splits:
        raise UserError(
            f"{root} (data.dir) is not what the library datasets saves: it has neither {SETS} nor {SET}. Parquet "
            "files, as the hub has them, are read with --config.data.name=parquet, folders of images with image_folder."
        )
    if split not in splits:
        alone = f" A part of it is a split as well: {[*splits][0]}[90%:]." if len(splits) == 1 else ""
        raise UserError(f"{root} (data.dir) has no split {split!r}. {did_you_mean(split, splits)}{alone}")
    if not (splits[split] / SET).is_file():
        raise UserError(f"{splits[split]} has no {SET}: it is not complete. Save it again.")
    return splits[split]


def _splits(root: Path) -> dict[str, Path]:
    with _told(root):
        if (root / SETS).is_file():
            return {name: root / name for name in json.loads((root / SETS).read_text())["splits"]}
        if (root / SET).is_file():
            return {json.loads((root / SET).read_text()).get("_split") or "train": root}
    return {}


def _loaded(folder: str, split: str) -> Any:
    place = _folder(folder, split)
    return _load(place, os.stat(place / SET).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _load(place: Path, changed: int) -> Any:
    """The datasets.Dataset of a split, memory-mapped; `changed` makes it another one when it is written again."""
    import datasets

    with _told(place):
        data: Any = datasets.load_from_disk(str(place), keep_in_memory=False).with_format("arrow")
        for file in (Path(entry["filename"]) for entry in data.cache_files):
            with open(file, "rb") as opened:
                opened.seek(-min(len(END), file.stat().st_size), os.SEEK_END)
                if opened.read() != END:  # where it is cut between two batches, the library takes it for whole
                    raise EOFError(f"{file.name} is cut off")
        return data


def _column(data: Any, name: str) -> Any:
    """A whole column as a pyarrow.ChunkedArray, of a file that is mapped: nothing is read yet."""
    import pyarrow

    column = data.select_columns([name])[:].column(name)
    return column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column


def _sizes(column: Any) -> np.ndarray:
    """int64 [N]: the bytes of each image, -1 where there are none."""
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    column = compute.struct_field(column, "bytes") if pyarrow.types.is_struct(column.type) else column
    return compute.fill_null(compute.binary_length(column), -1).to_numpy().astype(np.int64)


def _told(place: Path) -> contextlib.AbstractContextManager[None]:
    return unreadable_told(place, "It may be truncated or damaged: save it again.")


def _open(place: Path, changed: int, column: str, name: str) -> BinaryIO:
    return io.BytesIO(content_of(_load(place, changed)[int(name)].column(column)[0].as_py()))
