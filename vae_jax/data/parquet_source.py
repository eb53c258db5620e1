"""Images in Parquet files, as the Hugging Face hub keeps them: DIR/train.parquet, or shards, also below DIR/data."""

import bisect
import contextlib
import functools
import importlib.util
import io
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.arrow_columns import Columns, content_of, find_columns, numbered
from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset
from vae_jax.data.image_set import Images, image_set, other_splits
from vae_jax.data.split_files import files_of_split, names_of_files
from vae_jax.errors import UserError, unreadable_told
from vae_jax.runtime.sharding import memory_for_data

BELOW = ("", "data")  # where the files of a split may be
HELD = 2  # row groups in memory: threads that read one after another may be in two
_ONE_AT_A_TIME = threading.Lock()


class Table(NamedTuple):
    """A Parquet file, which was changed at `changed`; starts: the first row of each row group, and the end."""

    file: Path
    changed: int
    starts: tuple[int, ...]


def parquet(config: ConfigDict, split: str) -> Dataset:
    """Images of DIR/SPLIT.parquet, or of shards such as DIR/SPLIT-00000-of-00005.parquet, in the order of their rows.

    They are read once, a row group at a time, and held in memory: UserError for a split that is larger than
    `memory_for_data`, and for files that are broken or have no such column. See `arrow_columns` for the columns.
    """
    images = parquet_images(config.data.dir, split, other_splits(config, split))
    size = len(images.names) * int(np.prod(stored_shape(config)))
    if size > memory_for_data(config.data.memory_limit):
        raise UserError(
            f"{images.place} cannot be read by index, and its {size:,} bytes exceed data.memory_limit "
            f"({config.data.memory_limit:,} for each device of a host). Raise the limit, or make shards of it with\n"
            f"  python -m vae_jax.shards --source=parquet --dir={config.data.dir} --output=OUT\n"
            "and read those with --config.data.name=shards --config.data.dir=OUT."
        )
    return image_set(config, images)


def parquet_images(folder: str, split: str, others: Collection[str]) -> Images:
    """What `parquet` reads of a folder, with classes of that split and of `others`.

    An image is called by its row. Its marks are the size of its file, and when that was changed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError("parquet needs the package pyarrow, which is not installed: pip install 'vae_jax[parquet]'")
    root = Path(folder)
    if not folder or not root.is_dir():
        raise UserError(f"parquet needs a folder: set --config.data.dir=DIR, with DIR/{split}.parquet in it.")
    files = files_of_split(root, split, (".parquet",), BELOW)
    if not files:
        raise UserError(
            f"{root} (data.dir) has no split {split!r}; expected {split}.parquet or shards such as "
            f"{split}-00000-of-00005.parquet, there or in {root / 'data'}. {names_of_files(root, BELOW)}"
        )
    columns = _columns(files)
    tables = {"" if len(files) == 1 else file.name: _table(file) for file in files}
    place = files[0] if len(files) == 1 else files[0].parent / split
    names, marks = [], []
    for key, table in tables.items():
        names += [f"{key}/{row:06}".lstrip("/") for row in range(table.starts[-1])]
        marks += [(os.stat(table.file).st_size, table.changed)] * table.starts[-1]
    labels, classes = None, ()
    if columns.label is not None:
        other_files = (files_of_split(root, other, (".parquet",), BELOW) for other in others)
        theirs = (_column(some, columns.label) for some in other_files if some and columns.words)
        labels, classes = numbered(columns, _column(files, columns.label), theirs, place)
    content = functools.partial(_open, tables, columns.image)
    return Images(place, names, np.array(marks, np.int64).reshape(-1, 2), columns.left_out, content, labels, classes)


def _columns(files: Sequence[Path]) -> Columns:
    found = []
    for file in files:
        with _told(file), _opened(file) as opened:
            schema = opened.schema_arrow
        found.append(find_columns(schema, file))
        if found[-1] != found[0]:
            raise UserError(f"{file} has other columns of images or labels, or other classes, than {files[0]}.")
    return found[0]


def _table(file: Path) -> Table:
    with _told(file), _opened(file) as opened:
        rows = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
    return Table(file, os.stat(file).st_mtime_ns, (0, *np.cumsum(rows, dtype=int).tolist()))


def _column(files: Sequence[Path], name: str) -> Any:
    """A column of all files that have it, end to end, as a pyarrow.ChunkedArray."""
    import pyarrow

    chunks = []
    for file in files:
        with _told(file), _opened(file) as opened:
            if name not in opened.schema_arrow.names:
                continue
            column = opened.read(columns=[name]).column(name)
        kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
        chunks += column.cast(kind).chunks
    return pyarrow.chunked_array(chunks) if chunks else pyarrow.chunked_array([], pyarrow.int64())


def _opened(file: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)


def _told(file: Path) -> contextlib.AbstractContextManager[None]:
    return unreadable_told(file, "It may be truncated or damaged: fetch it again.")


def _open(tables: Mapping[str, Table], column: str, name: str) -> BinaryIO:
    key, _, row = name.rpartition("/")
    table, place = tables[key], int(row)
    group = bisect.bisect_right(table.starts, place) - 1
    with _ONE_AT_A_TIME:
        cells = _row_group(table, group, column)
    if isinstance(cells, str):
        raise OSError(cells)
    return io.BytesIO(content_of(cells[place - table.starts[group]].as_py()))


@functools.lru_cache(maxsize=HELD)
def _row_group(table: Table, group: int, column: str) -> Any:
    """The images of a row group as a pyarrow.ChunkedArray, or why they cannot be read."""
    try:
        with open(table.file, "rb") as file:
            if os.fstat(file.fileno()).st_mtime_ns != table.changed:
                return f"{table.file} was changed while it was in use"
        with _opened(table.file) as opened:
            return opened.read_row_group(group, columns=[column]).column(column)
    except Exception as error:  # on broken files the library raises anything
        return f"{table.file}: row group {group} cannot be read: {error}"
