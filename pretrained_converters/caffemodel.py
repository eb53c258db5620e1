"""Reads the weights in a .caffemodel, the NetParameter message of BVLC/caffe's caffe.proto in protobuf's wire format.

Only what holds weights is read: the layers, new (`layer`, field 100) and old (`layers`, field 2), their names and their
blobs. That needs no library, and the blobs of a large file become arrays without a copy.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError

STARTS = (b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")  # the keys of a net's name, old layers, inputs and new layers
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
LAYERS = {100: (1, 7), 2: (4, 6)}  # the field of a net: the fields of a layer's name and blobs
DIMENSIONS = (1, 2, 3, 4)  # of a blob without a shape: num, channels, height, width
DATA = {5: ("<f4", FIXED32), 8: ("<f8", FIXED64)}  # a blob's data and double_data
SHAPE, DIM = 7, 1


class Field(NamedTuple):
    """One entry of a message."""

    number: int
    kind: int  # the wire type
    value: int | memoryview


def read_caffemodel(data: bytes, source: str) -> dict[str, np.ndarray]:
    """{"conv1.0": the first blob of the layer conv1, ...}, float32 or float64 of the shapes in the file.

    UserError if the message is truncated or damaged, or holds no layer with blobs.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        for field in _fields(memoryview(data)):
            if field.number in LAYERS:
                arrays |= _layer(_message(field), *LAYERS[field.number])
    except (ValueError, OverflowError) as error:
        raise UserError(f"{source} starts like a .caffemodel, but is damaged or something else: {error}.") from None
    if not arrays:
        raise UserError(f"{source} holds no weights: expected a .caffemodel with blobs in its layers.")
    return arrays


def _layer(message: memoryview, name_field: int, blobs_field: int) -> dict[str, np.ndarray]:
    """The blobs of a layer, by its name and their index."""
    name, blobs = "", []
    for field in _fields(message):
        if field.number == name_field:
            name = bytes(_message(field)).decode()
        elif field.number == blobs_field:
            blobs.append(_message(field))
    return {f"{name}.{i}": _blob(blob, f"{name}.{i}") for i, blob in enumerate(blobs)}


def _blob(message: memoryview, name: str) -> np.ndarray:
    """The numbers of a blob, packed or not, in its shape or, in old files, its four dimensions."""
    shape, old, parts = None, dict.fromkeys(DIMENSIONS, 0), []
    for field in _fields(message):
        if field.number == SHAPE:
            shape = tuple(n for part in _fields(_message(field)) if part.number == DIM for n in _varints(part))
        elif field.number in DIMENSIONS:
            (old[field.number],) = _varints(field)
        elif field.number in DATA:
            dtype, single = DATA[field.number]
            if field.kind not in (single, BYTES) or len(field.value) % np.dtype(dtype).itemsize:
                raise ValueError(f"the blob {name!r} has a malformed field of numbers")
            parts.append(np.frombuffer(field.value, dtype))
    shape = tuple(old.values()) if shape is None else shape
    numbers = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    if math.prod(shape) != len(numbers):
        raise ValueError(f"the blob {name!r} of shape {shape} holds {len(numbers):,} numbers")
    return numbers.reshape(shape)


def _fields(message: memoryview) -> Iterator[Field]:
    """The entries of a message in order; ValueError if it is malformed."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            if kind == BYTES:
                size, at = _varint(message, at)
            elif kind in (FIXED32, FIXED64):
                size = 4 if kind == FIXED32 else 8
            else:
                raise ValueError(f"wire type {kind}, which caffe.proto does not use")
            if size > len(message) - at:
                raise ValueError(f"it ends {size - len(message) + at:,} bytes too early")
            value, at = message[at : at + size], at + size
        yield Field(number, kind, value)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits in groups of seven, lowest first, and where the next entry starts."""
    value = 0
    for i, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("it ends inside a number")


def _varints(field: Field) -> list[int]:
    """The integers of an entry, packed or not."""
    if field.kind == VARINT:
        return [field.value]
    message, at, numbers = _message(field), 0, []
    while at < len(message):
        number, at = _varint(message, at)
        numbers.append(number)
    return numbers


def _message(field: Field) -> memoryview:
    if field.kind != BYTES:
        raise ValueError(f"field {field.number} has wire type {field.kind}, expected {BYTES}")
    return field.value
