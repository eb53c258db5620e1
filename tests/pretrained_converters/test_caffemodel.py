"""The reader of Caffe's files: every form that writers use, and refused files."""

import numpy as np
import pytest
from helpers.caffe_files import entry, new_blob, number, old_blob

from pretrained_converters.sources import read_source
from vae_jax.errors import UserError

KERNEL = np.arange(24, dtype=np.float32).reshape(4, 3, 2, 1) - 1.5
BIAS = np.array([1e-3, -2, 3e5, 0], np.float32)


def unpacked_blob(array: np.ndarray) -> bytes:
    """One entry for each number and each dimension."""
    numbers = b"".join(entry(5, float(value)) for value in array.ravel())
    return numbers + entry(7, b"".join(entry(1, n) for n in array.shape))


def double_blob(array: np.ndarray) -> bytes:
    return entry(7, entry(1, b"".join(map(number, array.shape)))) + entry(8, array.astype("<f8").tobytes())


def new_net(blob) -> bytes:
    """Layers as Caffe writes them since 2014: name 1, type 2, bottom 3, blobs 7; fields that are ignored."""
    layer = entry(1, b"conv1") + entry(2, b"Convolution") + entry(3, b"data") + entry(7, blob(KERNEL))
    layer += entry(7, blob(BIAS)) + entry(106, entry(1, 4))
    relu = entry(1, b"relu1") + entry(2, b"ReLU")
    return entry(1, b"CaffeNet") + entry(5, 1) + entry(100, layer) + entry(100, relu)


def old_net(blob) -> bytes:
    """Layers as before: bottom 2, name 4, a number as type 5, blobs 6, learning rates 7."""
    layer = entry(2, b"data") + entry(4, b"conv1") + entry(5, 4) + entry(6, blob(KERNEL)) + entry(6, blob(BIAS))
    return entry(2, layer + entry(7, 1.0) + entry(7, 2.0)) + entry(2, entry(4, b"relu1") + entry(5, 18))


@pytest.mark.parametrize("blob", [new_blob, old_blob, unpacked_blob, double_blob])
@pytest.mark.parametrize("net", [new_net, old_net])
def test_every_form(net, blob, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(net(blob))
    arrays = read_source(tmp_path / "net.caffemodel", ()).arrays
    assert list(arrays) == ["conv1.0", "conv1.1"]
    bias = BIAS.reshape(1, 1, 1, 4) if blob is old_blob else BIAS
    for name, expected in (("conv1.0", KERNEL), ("conv1.1", bias)):
        assert arrays[name].dtype == (np.float64 if blob is double_blob else np.float32)
        np.testing.assert_array_equal(arrays[name], expected)


def test_as_protobuf_writes_it(tmp_path):
    """The same message by Google's library."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    kind = descriptor_pb2.FieldDescriptorProto
    for message, fields in (
        ("Shape", (("dim", 1, kind.TYPE_INT64, ""),)),
        ("Blob", (("data", 5, kind.TYPE_FLOAT, ""), ("shape", 7, kind.TYPE_MESSAGE, "Shape"))),
        ("Layer", (("name", 1, kind.TYPE_STRING, ""), ("blobs", 7, kind.TYPE_MESSAGE, "Blob"))),
        ("Net", (("name", 1, kind.TYPE_STRING, ""), ("layer", 100, kind.TYPE_MESSAGE, "Layer"))),
    ):
        declared = file.message_type.add(name=message)
        for name, place, of, type_name in fields:
            label = kind.LABEL_OPTIONAL if name in ("name", "shape") else kind.LABEL_REPEATED
            field = declared.field.add(name=name, number=place, type=of, label=label)
            if type_name:
                field.type_name = f".caffe.{type_name}"
            elif label == kind.LABEL_REPEATED:
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    net = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Net"))(name="n" * 300)
    for array in (KERNEL, BIAS):
        blob = net.layer.add(name="überconv").blobs.add()
        blob.data.extend(array.ravel().tolist())
        blob.shape.dim.extend(array.shape)
    net.layer[1].name = "fc"
    (tmp_path / "x").write_bytes(net.SerializeToString())
    arrays = read_source(tmp_path / "x", ()).arrays
    assert list(arrays) == ["überconv.0", "fc.0"]
    np.testing.assert_array_equal(arrays["überconv.0"], KERNEL)
    np.testing.assert_array_equal(arrays["fc.0"], BIAS)


@pytest.mark.parametrize("net", [new_net, old_net])
def test_a_truncated_file(net, tmp_path):
    """At any byte: one line of error, or the complete layers."""
    whole = net(new_blob)
    for length in range(2, len(whole)):
        (tmp_path / "cut.caffemodel").write_bytes(whole[:length])
        try:
            assert list(read_source(tmp_path / "cut.caffemodel", ()).arrays) == ["conv1.0", "conv1.1"]
        except UserError as error:
            assert "cut.caffemodel" in str(error) and "\n" not in str(error)


def test_every_byte_altered(tmp_path):
    """Never a traceback: arrays of some kind, or one line of error."""
    whole = new_net(old_blob)
    for at in range(1, len(whole)):
        for bits in (0xFF, 0x80, 0x01, 0x07):
            (tmp_path / "x").write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
            try:
                read_source(tmp_path / "x", ())
            except UserError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n" + bytes(range(200)), "starts like a .caffemodel, but is damaged or something else"),
        (entry(1, b"CaffeNet"), "holds no weights: expected a .caffemodel with blobs"),
        (entry(1, b"x") + b"\xa2\x06\xff", "it ends inside a number"),
        (entry(1, b"x") + entry(100, b"12")[:-1], "it ends 1 bytes too early"),
        (entry(1, b"x") + b"\xa3\x06", "wire type 3"),
        (entry(1, b"x") + entry(100, 7), "field 100 has wire type 0, expected 2"),
        (new_net(lambda array: old_blob(array)[:-9]), "it ends 9 bytes too early"),
        (new_net(lambda array: entry(7, entry(1, 5)) + entry(5, bytes(8))), r"'conv1.0' of shape \(5,\) holds 2 num"),
        (new_net(lambda array: entry(5, bytes(7))), "'conv1.0' has a malformed field of numbers"),
        (new_net(lambda array: entry(7, entry(1, number(2**64 - 1) + number(0)))), "damaged"),
        (entry(100, entry(1, b"\xff") + entry(7, b"")), "can't decode"),
    ],
)
def test_what_is_refused(data, message, tmp_path):
    (tmp_path / "x.caffemodel").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_source(tmp_path / "x.caffemodel", ())
