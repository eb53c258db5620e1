"""Caffe's AlexNet by PyTorch, features and gradients (`golden/make_caffenet.py`); sizes of images; files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import fill, uniform
from helpers.caffe_files import entry, new_blob, old_blob
from helpers.checks import ROOT, equations

from pretrained_converters import convert
from pretrained_converters.names import STYLES, translate
from vae_jax.backbones import BACKBONES, features, get_backbone, load_backbone, preprocessing
from vae_jax.backbones.caffenet import CONVOLUTIONS, DENSE, DENSE_LARGEST, CaffeNet, local_response_norm
from vae_jax.backbones.contract import flax_backbone
from vae_jax.errors import UserError
from vae_jax.weights.files import fit
from vae_jax.weights.published import how_to_get

NARROW = CaffeNet((6, 16, 24, 24, 16), 256, 62)
CAFFENET = flax_backbone(NARROW, preprocessing.caffenet, CONVOLUTIONS | DENSE, DENSE_LARGEST)
VIDEONET = flax_backbone(NARROW, preprocessing.caffenet, CONVOLUTIONS)
SIZES = {"small": (71, 51), "whole": (203, 227)}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests" / "golden" / "caffenet.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def blobs(golden) -> dict[str, np.ndarray]:
    """The narrow network's weights as Caffe names and orders them."""
    shapes = (line.partition(" ") for line in golden["shapes"])
    return {key: fill(key, tuple(map(int, shape.split(",")))) for key, _, shape in shapes}


@pytest.fixture(scope="module")
def weights(blobs):
    leaves, _ = translate(blobs, STYLES["caffenet"], "formula")
    return fit(leaves, jax.eval_shape(lambda: CAFFENET.init(jax.random.key(0), tuple(CAFFENET.taps))), "formula")


def images(case: str) -> np.ndarray:
    return uniform(f"caffenet {case}", (1, *SIZES[case], 3)).astype(np.float32)


@pytest.mark.parametrize("case, last, step", [("small", "pool5", 1), ("whole", "fc8", 7)])
def test_pytorch(case, last, step, golden, weights):
    """torch 2.13.0."""
    expected = {key.partition("/")[2]: value for key, value in golden.items() if key.startswith(case)}
    gradient = expected.pop("gradient")
    taps = tuple(expected)

    def energy(x):
        found = CAFFENET.apply(weights, x, taps)
        return jnp.square(found[last]).sum(), found

    (_, found), slope = jax.jit(jax.value_and_grad(energy, has_aux=True))(images(case))
    for tap, value in expected.items():
        assert found[tap].shape == value.shape
        np.testing.assert_allclose(found[tap], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=tap)
    np.testing.assert_allclose(slope[:, ::step, ::step], gradient, rtol=0, atol=1e-4 * np.abs(gradient).max())


def test_local_response_norm_by_hand():
    """Caffe's formula: 1 + alpha / size times the squares of the channel, two before and two after it."""
    x = 100 * np.random.default_rng(0).normal(size=(2, 3, 7))
    expected = np.empty_like(x)
    for c in range(7):
        total = sum(x[..., j] ** 2 for j in range(c - 2, c + 3) if 0 <= j < 7)
        expected[..., c] = x[..., c] / (1 + 1e-4 / 5 * total) ** 0.75
    assert np.abs(expected - x).max() > 10
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)


def test_gradients_are_finite(weights):
    """For a black and for a uniform image, where whole windows are equal."""
    taps = tuple(CONVOLUTIONS)
    energy = lambda x: sum(jnp.square(f).sum() for f in CAFFENET.apply(weights, x, taps).values())  # noqa: E731
    uniform_images = np.array([0, 0.5], np.float32).reshape(2, 1, 1, 1).repeat(64, 1).repeat(50, 2)
    assert jnp.isfinite(jax.jit(jax.grad(energy))(uniform_images)).all()


def test_bfloat16_runs_in_bfloat16(golden, weights):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights)
    program = jax.make_jaxpr(lambda w, x: CAFFENET.apply(w, x, ("fc8",)))(half, images("whole"))
    products = [e for e in equations(program.jaxpr) if e.primitive.name in ("conv_general_dilated", "dot_general")]
    assert len(products) == 11 and {str(e.outvars[0].aval.dtype) for e in products} == {"bfloat16"}
    found = jax.jit(CAFFENET.apply, static_argnums=2)(half, images("whole"), ("fc8",))["fc8"]
    assert found.dtype == jnp.float32
    assert 1e-4 < np.abs(found - golden["whole/fc8"]).max() / np.abs(golden["whole/fc8"]).max() < 0.1


def shapes(name: str, height: int, width: int, taps: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of the full network's features."""
    backbone = BACKBONES[name]
    tree = jax.eval_shape(lambda: backbone.init(jax.random.key(0), taps))
    found = jax.eval_shape(lambda w: backbone.apply(w, jnp.zeros((1, height, width, 3)), taps), tree)
    return {tap: value.shape[1:] for tap, value in found.items()}


def test_the_whole_networks():
    """Every feature of a 227x227 image, and the 60,965,224 numbers of AlexNet in two groups."""
    convolutions = {
        "relu1": (55, 55, 96), "relu2": (27, 27, 256), "relu3": (13, 13, 384), "relu4": (13, 13, 384),
        "relu5": (13, 13, 256), "pool5": (6, 6, 256),
    }  # fmt: skip
    dense = {"fc6": (4096,), "fc7": (4096,), "fc8": (1000,)}
    assert shapes("videonet", 227, 227, tuple(BACKBONES["videonet"].taps)) == convolutions
    assert shapes("caffenet", 227, 227, tuple(BACKBONES["caffenet"].taps)) == convolutions | dense
    tree = jax.eval_shape(lambda: BACKBONES["caffenet"].init(jax.random.key(0), ("fc8",)))
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == 60_965_224
    assert tree["conv2"]["kernel"].shape == (5, 5, 48, 256) and tree["conv3"]["kernel"].shape == (3, 3, 256, 384)
    tree = jax.eval_shape(lambda: BACKBONES["caffenet"].init(jax.random.key(0), ("relu2",)))
    assert list(tree) == ["conv1", "conv2"]


def test_the_smallest_and_the_largest_images():
    for tap, least in CONVOLUTIONS.items():
        assert min(shapes("videonet", least, least + 30, (tap,))[tap]) == 1
        assert min(shapes("videonet", least - 1, least + 30, (tap,))[tap]) == 0
        with pytest.raises(UserError, match=f"at least {least} pixels for {tap}, not {least - 1}"):
            get_backbone("videonet", (tap,), least - 1)
    wide = {size: shapes("caffenet", size, 227, ("pool5",))["pool5"][0] for size in (198, 199, 230, 231)}
    assert wide == {198: 5, 199: 6, 230: 6, 231: 7}
    assert shapes("caffenet", 199, 230, ("fc8",)) == {"fc8": (1000,)}
    for size in (198, 231):
        with pytest.raises(UserError, match=f"at least 199 and at most 230 pixels for fc7, not {size}"):
            get_backbone("caffenet", ("relu5", "fc7"), size)
        get_backbone("caffenet", ("relu5",), size)


def test_from_the_files_to_features(blobs, weights, tmp_path, monkeypatch):
    """CaffeNet's file has the old format, VideoNet's the new one, with layers beyond pool5; neither passes as the
    other."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(BACKBONES, "caffenet", CAFFENET)
    monkeypatch.setitem(BACKBONES, "videonet", VIDEONET)
    layers = [f"conv{i}" for i in range(1, 6)] + ["fc6", "fc7", "fc8"]
    old = [entry(4, key.encode()) + entry(6, old_blob(blobs[f"{key}.0"])) + entry(6, old_blob(blobs[f"{key}.1"]))
           for key in layers]  # fmt: skip
    new = [entry(1, key.encode()) + entry(7, new_blob(blobs[f"{key}.0"])) + entry(7, new_blob(blobs[f"{key}.1"]))
           for key in layers[:-1]]  # fmt: skip
    for name, field, content in (("caffenet", 2, old), ("videonet", 100, new)):
        file = tmp_path / f"{name}.caffemodel"
        file.write_bytes(entry(1, b"net") + b"".join(entry(field, layer) for layer in content))
        convert.main([name, f"--source={file}"])
        other = "videonet" if name == "caffenet" else "caffenet"
        with pytest.raises(UserError, match="fc8"):
            convert.convert(other, file, tmp_path / "other.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load_backbone("caffenet"), weights)
    jax.tree.map(np.testing.assert_array_equal, load_backbone("videonet"), {key: weights[key] for key in layers[:5]})
    assert list(features("caffenet", np.zeros((1, 203, 231, 3)))) == list(CONVOLUTIONS)
    assert list(features("caffenet", np.zeros((1, 199, 230, 1)))) == [*CONVOLUTIONS, *DENSE]


def test_where_they_are_published():
    """With the SHA-1 of Caffe's model card; no SHA-256 is published."""
    caffenet, videonet = how_to_get("caffenet"), how_to_get("videonet")
    assert "berkeleyvision.org/bvlc_reference_caffenet.caffemodel, SHA-256 not published" in caffenet
    assert "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46" in caffenet
    assert "unsup_models/color_model.caffemodel, SHA-256 not published" in videonet


def test_colours_by_hand():
    pixel = np.array([0.2, 0.4, 0.6], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(preprocessing.caffenet(pixel).ravel(), [153 - 104, 102 - 117, 51 - 123], rtol=1e-5)
