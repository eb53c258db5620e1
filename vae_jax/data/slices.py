"""Splits by name and slice, in tensorflow-datasets' notation: 'test', 'train[:55000]', 'train[90%:]'."""

import re
from collections.abc import Callable

from vae_jax.errors import UserError

PATTERN = re.compile(r"(?P<base>[\w-]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def parse_split(split: str) -> tuple[str, Callable[[int], tuple[int, int]]]:
    """The split's name, and a function from its size to the slice's first index and the one past its last."""
    match = PATTERN.fullmatch(split)
    if not match:
        raise UserError(f"Cannot parse the split {split!r}: expected a name, or a slice such as train[:55000].")

    def bounds(size: int) -> tuple[int, int]:
        def position(text: str | None, default: int) -> int:
            if text is None:
                return default
            value = round(size * int(text[:-1]) / 100) if text.endswith("%") else int(text)
            return min(max(value + size if value < 0 else value, 0), size)

        return position(match["start"], 0), position(match["stop"], size)

    return match["base"], bounds
