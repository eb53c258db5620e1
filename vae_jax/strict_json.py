"""The JSON of every file and line that is written: without NaN and Infinity, which are no JSON."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

NOT_FINITE = "not_finite"  # the note in a record: {dotted place: 'nan', 'inf' or '-inf'}


def to_json(content: Any, indent: int | None = None) -> str:
    """Content of dicts, lists, text and numbers as JSON; what is not finite is null, and a dict notes where it was."""
    notes = dict(_not_finite(content))
    if notes and isinstance(content, Mapping):
        content = {**content, NOT_FINITE: notes}
    return json.dumps(finite(content), indent=indent, allow_nan=False)


def finite(content: Any) -> Any:
    """The same content with None in place of every number that is not finite."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _not_finite(content: Any, place: str = "") -> Iterator[tuple[str, str]]:
    entries = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, value in entries:
        name = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping | list | tuple):
            yield from _not_finite(value, name)
        elif isinstance(value, float) and not math.isfinite(value):
            yield name, str(value)
