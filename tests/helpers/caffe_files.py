"""Parts of Caffe files, as Caffe writes them."""

import struct

import numpy as np


def number(value: int) -> bytes:
    """A varint: seven bits per byte, lowest first, the eighth bit set in all but the last."""
    return bytes([value & 127 | 128]) + number(value >> 7) if value > 127 else bytes([value])


def entry(field: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return number(field << 3 | 2) + number(len(value)) + value
    if isinstance(value, float):
        return number(field << 3 | 5) + struct.pack("<f", value)
    return number(field << 3) + number(value)


def new_blob(array: np.ndarray) -> bytes:
    """With a packed shape and packed values, after the gradients that training snapshots contain."""
    differences = entry(6, bytes(4 * array.size))
    return differences + entry(7, entry(1, b"".join(map(number, array.shape)))) + entry(5, array.tobytes())


def old_blob(array: np.ndarray) -> bytes:
    """With four dimensions, padded with leading ones, before its values."""
    shape = (1,) * (4 - array.ndim) + array.shape
    return b"".join(entry(i, n) for i, n in enumerate(shape, 1)) + entry(5, array.tobytes())
