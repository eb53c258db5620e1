"""Tables of Arrow and Parquet: which column has the images, which the labels, and what the labels are called."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vae_jax.errors import UserError

IMAGE, LABEL = ("image", "img"), ("label", "labels")


class Columns(NamedTuple):
    """What a schema says. image: the column of images. label: that of labels, None if there is none. words: whether
    labels are text. names: of the labels 0, 1, ..., or (). left_out: as `Images` has it."""

    image: str
    label: str | None
    words: bool
    names: tuple[str, ...]
    left_out: dict[str, dict[str, Any]]


def find_columns(schema: Any, place: object) -> Columns:
    """The columns of a pyarrow.Schema; UserError, which names the `place`, if none or several hold images.

    Images are bytes, or structs with bytes, as Hugging Face's libraries have them. Labels are integers or text.
    """
    import pyarrow.types as types

    found = [name for name in dict.fromkeys(schema.names) if _of_bytes(schema.field(name).type, types)]
    named = [name for name in found if name in IMAGE] or found
    if len(named) != 1:
        kinds = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names)
        raise UserError(
            f"{place} has {'several columns' if named else 'no column'} of encoded images; expected one of bytes, or "
            f"of structs with bytes, called 'image' or 'img' if there are several. Its columns are {kinds}."
        )
    label = next((name for name in LABEL if name in schema.names), None)
    if label is None:
        return Columns(named[0], None, False, (), {})
    kind = schema.field(label).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    words = types.is_string(kind) or types.is_large_string(kind)
    if words or types.is_integer(kind):
        return Columns(named[0], label, words, () if words else _class_names(schema, label), {})
    reason = {"labels that are neither whole numbers nor text": {"number": 1, "such as": [f"{label}: {kind}"]}}
    return Columns(named[0], None, False, (), reason)


def _of_bytes(kind: Any, types: Any) -> bool:
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _of_bytes(kind.field("bytes").type, types)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _class_names(schema: Any, label: str) -> tuple[str, ...]:
    """Those of a ClassLabel of the library `datasets`, which keeps them beside the schema; () without them."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(map(str, about["info"]["features"][label]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()


def numbered(
    columns: Columns, values: Any, others: Iterable[Any], place: object
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(labels int32 [N], their names) of a column of labels, given with those of the other splits in use.

    Text is numbered in the order of all of its values. Numbers that are all -1, which stands for unknown, are no
    labels: (None, ()). UserError for labels that are missing or out of range.
    """
    if values.null_count:
        raise UserError(f"{place}: {values.null_count:,} of its {len(values):,} rows have no {columns.label}.")
    if columns.words:
        texts = values.to_pylist()
        names = sorted({*texts, *(text for other in others for text in other.to_pylist() if isinstance(text, str))})
        index = {name: i for i, name in enumerate(names)}
        return np.array([index[text] for text in texts], np.int32), tuple(names)
    return _in_range(values.to_numpy(), columns.names, f"{place}: the column {columns.label}")


def _in_range(numbers: np.ndarray, names: Sequence[str], what: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if len(numbers) and (numbers == -1).all():
        return None, ()
    low, high, most = numbers.min(initial=0), numbers.max(initial=0), len(names) - 1 if names else 2**31 - 1
    if low < 0 or high > most:
        why = f", as it has the names of {len(names)} classes" if names else ""
        raise UserError(f"{what} has labels from {low} to {high}; expected 0 to {most:,}{why}.")
    return numbers.astype(np.int32), tuple(names)


def content_of(cell: Any) -> bytes:
    """The bytes of an image; ValueError if its row has none."""
    if isinstance(cell, dict):
        path = cell.get("path")
        cell = cell["bytes"]
        if cell is None and path:
            raise ValueError(f"its row has no bytes, only the path {path}")
    if cell is None:
        raise ValueError("its row has no image")
    return cell
