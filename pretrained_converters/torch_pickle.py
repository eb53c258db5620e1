"""Reads the state dicts that `torch.save` writes, without torch, and numpy's pickled arrays.

A pickle is a program: these readers look up every name it asks for in a short list of stand-ins that only store their
arguments, and refuse files that ask for others. Arrays are made afterwards, from checked numbers and types.
"""

import collections
import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vae_jax.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
NUMPY_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
DAMAGE = (  # what reading a truncated or altered file can raise
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, AttributeError, EOFError, IndexError,
    KeyError, MemoryError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class Storage(NamedTuple):
    """A block of numbers that tensors are views of."""

    dtype: str  # of numpy, or bfloat16
    key: str
    numel: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch(data: bytes, source: str) -> dict[str, np.ndarray]:
    """The tensors of a state dict in either format of `torch.save` by name; bfloat16 becomes float32."""
    read = _read_legacy if data.startswith(LEGACY_START) else _read_zip
    try:
        content, bytes_of = read(data, source)
        tensors = _tensors(content, source)
        return {name: _array(tensor, bytes_of(tensor.storage)) for name, tensor in tensors.items()}
    except DAMAGE as error:
        raise UserError(f"{source} is damaged: {type(error).__name__}: {error}.") from None


def read_numpy_pickle(data: bytes, source: str) -> dict[str, np.ndarray]:
    """The arrays of a pickled, nested dict of numpy arrays by path, `a/b/c`."""
    names = {(f"numpy.{core}.multiarray", "_reconstruct"): NumpyArray for core in ("core", "_core")}
    names |= {("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): NumpyType}
    names[("_codecs", "encode")] = lambda text, _: text.encode("latin1")  # how old pickles write bytes
    arrays: dict[str, np.ndarray] = {}
    try:
        _collect(_Unpickler(io.BytesIO(data), source, names).load(), "", arrays, source)
    except DAMAGE as error:
        raise UserError(f"{source} is damaged: {type(error).__name__}: {error}.") from None
    return arrays


class NumpyType:
    """A dtype as a pickle describes it."""

    def __init__(self, code: str, *_):
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple):
        self.order = state[1]

    def dtype(self) -> np.dtype:
        """The dtype; ValueError unless it is one of numbers."""
        if self.code not in NUMPY_TYPES or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array of {self.order}{self.code}, expected numbers")
        return np.dtype(self.order.replace("|", "") + self.code)


class NumpyArray:
    """An array as a pickle describes it."""

    def __init__(self, *_):
        self.state = None

    def __setstate__(self, state: tuple):
        self.state = state

    def array(self) -> np.ndarray:
        """The numbers; ValueError if their count does not match the shape."""
        _version, shape, kind, fortran, raw = self.state
        return np.frombuffer(raw, kind.dtype()).reshape(shape, order="F" if fortran else "C").copy()


class _Unpickler(pickle.Unpickler):
    """Unpickles with an allow-list: {(module, name): object}."""

    def __init__(self, file: io.BytesIO, source: str, names: Mapping[tuple[str, str], Any], load=None):
        super().__init__(file, encoding="latin1")
        self._source, self._names, self._load = source, names, load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise UserError(
                f"{self._source} asks for {module}.{name}, which weights do not need: it is refused and was not run. "
                "Expected a state dict of tensors; save it again with torch.save(model.state_dict(), FILE)."
            )
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if self._load is None:
            raise pickle.UnpicklingError(f"unexpected reference {pid!r}")
        return self._load(pid)


def _names() -> dict[tuple[str, str], Any]:
    return {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, stride, *_: Tensor(
            storage, offset, tuple(shape), tuple(stride)
        ),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        **{("torch", name): dtype for name, dtype in DTYPES.items()},
    }


def _storage(pid: tuple) -> Storage:
    kind, dtype, key, _, numel, *view = pid
    if kind != "storage" or any(view) or dtype not in DTYPES.values():
        raise pickle.UnpicklingError(f"unexpected reference {pid!r}")
    return Storage(dtype, str(key), int(numel))


def _read_zip(data: bytes, source: str) -> tuple[Any, Callable[[Storage], bytes]]:
    """The format since torch 1.6: a zip archive with NAME/data.pkl and NAME/data/KEY."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{source} is a zip archive without torch.save's data.pkl.")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise UserError(f"{source} was saved on a big-endian machine, which is not supported.")
    content = _Unpickler(io.BytesIO(archive.read(pickles[0])), source, _names(), _storage).load()
    return content, lambda storage: archive.read(f"{root}data/{storage.key}")


def _read_legacy(data: bytes, source: str) -> tuple[Any, Callable[[Storage], bytes]]:
    """The older format: four pickles, the list of storage keys, then each storage as its length and its numbers."""
    file, storages = io.BytesIO(data), {}

    def storage(pid: tuple) -> Storage:
        result = _storage(pid)
        storages[result.key] = result
        return result

    load = lambda: _Unpickler(file, source, _names(), storage).load()  # noqa: E731
    if load() != LEGACY_MAGIC:
        raise UserError(f"{source} does not start like a torch.save file.")
    _protocol, system, content, keys = load(), load(), load(), load()
    if not system["little_endian"]:
        raise UserError(f"{source} was saved on a big-endian machine, which is not supported.")
    blocks = {}
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        blocks[key] = file.read(numel * _itemsize(storages[key].dtype))
    return content, lambda storage: blocks[storage.key]


def _tensors(content: Any, source: str) -> dict[str, Tensor]:
    """The tensors of a state dict, which may lie under the key `state_dict`."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{source} does not hold a state dict, but a {type(content).__name__}.")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{source} is not a state dict of tensors: {name!r} is a {type(value).__name__}.")
    return dict(content)


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _array(tensor: Tensor, data: bytes) -> np.ndarray:
    """The numbers of a tensor; ValueError if it reaches beyond its storage."""
    storage, (offset, shape, stride) = tensor.storage, tensor[1:]
    if storage.dtype == "bfloat16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(data, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if len(values) != storage.numel or min((offset, *shape, *stride)) < 0:
        raise ValueError(f"storage {storage.key} holds {len(values)} numbers, expected {storage.numel}")
    if math.prod(shape) and last >= len(values):
        raise ValueError(f"a tensor of shape {shape} does not fit in its storage of {len(values)} numbers")
    strides = [s * values.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, strides).copy()


def _collect(node: Any, path: str, arrays: dict[str, np.ndarray], source: str) -> None:
    if isinstance(node, Mapping):
        for name, child in node.items():
            _collect(child, f"{path}/{name}" if path else str(name), arrays, source)
    elif isinstance(node, NumpyArray):
        arrays[path] = node.array()
    else:
        raise UserError(f"{source} is not a nested dict of arrays: {path or 'its content'!r} is {type(node).__name__}.")
