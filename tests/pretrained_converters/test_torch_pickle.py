"""The readers of pickles: torch's in both formats, numpy's, and refused files."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from helpers.checks import ROOT

from pretrained_converters.torch_pickle import read_numpy_pickle, read_torch
from vae_jax.errors import UserError

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("file", ["torch_zip.pth", "torch_legacy.pth"])
def test_torchs_pickles(file):
    """Every kind of tensor, as torch 2.13.0 wrote them (golden/make_torchvision.py)."""
    arrays = read_torch((GOLDEN / file).read_bytes(), file)
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = {
        "plain.weight": base, "transposed.weight": base.transpose(2, 0, 1), "shared.first": base[0],
        "shared.second": base[1], "half": np.float16([0.5, -1.5]), "bfloat": np.float32([0.5, -1.5, 3]),
        "double": np.array([[1e-3]]), "bn.num_batches_tracked": np.array(7), "parameter": np.ones(3, np.float32),
    }  # fmt: skip
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


class Evil:
    """What a pickle can do: on loading, call anything."""

    def __reduce__(self):
        return (print, ("executed",))


def test_other_pickles_are_refused(capsys, tmp_path):
    """By file and name, before anything in them runs."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"weight": Evil()}))
    legacy = (GOLDEN / "torch_legacy.pth").read_bytes()[:137] + pickle.dumps({"weight": Evil()})
    for read, data in (
        (read_torch, zipped.getvalue()),
        (read_torch, legacy),
        (read_numpy_pickle, pickle.dumps(Evil())),
    ):
        with pytest.raises(UserError, match=r"bad\.pth asks for builtins\.print.*refused"):
            read(data, "bad.pth")
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(UserError, match="does not hold a state dict, but a list"):
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("x/data.pkl", pickle.dumps([1, 2]))
        read_torch(zipped.getvalue(), "list.pth")


class Forged:
    """An array of another dtype than numbers with forged bytes, which would become pointers if it held objects."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __reduce__(self):
        function, arguments, state = np.zeros(1, self.dtype).__reduce__()
        return function, arguments, (*state[:4], b"\x41" * 8)


@pytest.mark.parametrize("dtype", ["O", [("a", "i4"), ("b", "i4")], "S8", "c8"])
def test_numpy_arrays_of_anything_but_numbers_are_refused(dtype):
    for content in ({"a": Forged(dtype)}, {"a": {"b": Forged(dtype)}}):
        with pytest.raises(UserError, match="x.ckpt is damaged: ValueError: an array of .*, expected numbers"):
            read_numpy_pickle(pickle.dumps(content, protocol=2), "x.ckpt")


def test_numpy_arrays_of_every_kind():
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": {"c": np.asfortranarray(np.arange(6).reshape(2, 3))},
              "d": np.array([True, False]), "e": np.array(3, ">f4")}  # fmt: skip
    found = read_numpy_pickle(pickle.dumps(arrays, protocol=2), "x.ckpt")
    for name, array in {"a": arrays["a"], "b/c": arrays["b"]["c"], "d": arrays["d"], "e": arrays["e"]}.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    cyclic = {}
    cyclic["a"] = cyclic
    with pytest.raises(UserError, match="damaged: RecursionError"):
        read_numpy_pickle(pickle.dumps(cyclic, protocol=2), "x.ckpt")


@pytest.mark.parametrize("file", ["torch_zip.pth", "torch_legacy.pth"])
def test_damaged_pickles(file):
    whole = (GOLDEN / file).read_bytes()
    for data in (whole[:-200], whole[: len(whole) // 2]):
        with pytest.raises(UserError, match="damaged"):
            read_torch(data, file)


def test_a_tensor_beyond_its_storage_is_refused():
    """Strides that would read other memory: the shape (2, 3, 4) of plain.weight made (9, 3, 4) in the pickle."""
    source, changed = io.BytesIO((GOLDEN / "torch_zip.pth").read_bytes()), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b"K\x02K\x03K\x04\x87", b"K\x09K\x03K\x04\x87", 1))
    with pytest.raises(UserError, match=r"shape \(9, 3, 4\) does not fit in its storage of 24"):
        read_torch(changed.getvalue(), "x.pth")
