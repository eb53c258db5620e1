"""Exemplar-CNN: its layers against numpy, dropout in training only, and from a run to a backbone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrained_converters import convert
from pretrained_converters.converters import CONVERTERS
from vae_jax.backbones import BACKBONES, features, get_backbone, load_backbone
from vae_jax.config import check_weights
from vae_jax.errors import UserError
from vae_jax.inference import load_workdir
from vae_jax.models.exemplar import ExemplarCnn
from vae_jax.systems import make_system
from vae_jax.train import train

NARROW = ExemplarCnn(classes=7, widths=(2, 3, 4), dense=5)
LAYERS = {"relu1": (32, 32, 64), "relu2": (16, 16, 128), "relu3": (8, 8, 256), "relu4": (512,), "logits": (10,)}


def uniform(*shape) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def weights_of(module, size=32):
    """Random kernels and, unlike those of `init`, random biases."""
    params = module.init(jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(tree, [leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32) for leaf in leaves])


def by_hand(params, images) -> dict[str, np.ndarray]:
    """The layers in numpy, in float64: windows of the padded image times kernels, maxima of blocks of four."""
    layers, x = {}, images.astype(np.float64) - 0.5
    for i in (1, 2, 3):
        if i > 1:
            batch, height, width, channels = x.shape
            x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))  # [B, h, w, C, 5, 5]
        conv = {name: np.asarray(leaf, np.float64) for name, leaf in params[f"conv{i}"].items()}
        x = np.maximum(np.einsum("bhwcij,ijco->bhwo", windows, conv["kernel"]) + conv["bias"], 0)
        layers[f"relu{i}"] = x
    for name, layer in (("relu4", "dense"), ("logits", "logits")):
        kernel, bias = (np.asarray(params[layer][leaf], np.float64) for leaf in ("kernel", "bias"))
        x = x.reshape(len(x), -1) @ kernel + bias
        layers[name] = x = np.maximum(x, 0) if name == "relu4" else x
    return layers


def test_layers_by_hand():
    params, images = weights_of(NARROW), uniform(2, 32, 32, 3)
    ours, expected = NARROW.apply({"params": params}, images), by_hand(params, images)
    assert ours.keys() == expected.keys()
    for name, layer in expected.items():
        np.testing.assert_allclose(ours[name], layer, rtol=1e-4, atol=1e-5, err_msg=name)


def test_sizes_and_he_initialisation():
    """64c5-128c5-256c5-512f: 4,864 + 204,928 + 819,456 + 8,389,120 parameters, and 513 for each class."""
    shapes, params = jax.eval_shape(ExemplarCnn(10).init_with_output, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    assert {name: layer.shape[1:] for name, layer in shapes.items()} == LAYERS
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 9_418_368 + 10 * 513
    kernel = BACKBONES["exemplar_cnn"].init(jax.random.key(0), ("relu3",))["conv3"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (25 * 128)), rtol=0.01)


def test_dropout_while_training_only():
    """Half of the units are dropped and the others doubled, by the key of the step."""
    network = ExemplarCnn(3, widths=(2, 2, 2), dense=2000)
    params, images = weights_of(network), uniform(1, 32, 32, 3)

    def units(train, key):
        return np.asarray(network.apply({"params": params}, images, train, rngs={"dropout": key})["relu4"])

    whole, once, twice = units(False, jax.random.key(0)), units(True, jax.random.key(0)), units(True, jax.random.key(1))
    kept = once != 0
    np.testing.assert_allclose(once[kept], 2 * whole[kept], rtol=1e-6)
    np.testing.assert_allclose(kept[whole > 0].mean(), 0.5, atol=0.07)
    assert (once != twice).any()


def test_the_classifier_trains_with_dropout_and_is_judged_without(smoke):
    config = exemplar(smoke)
    system = make_system(config, (32, 32, 3))
    batch = {"image": jnp.asarray(uniform(4, 32, 32, 3)), "label": jnp.arange(4)}
    params, stats = system.init(jax.random.key(0), batch)
    terms = jax.jit(lambda key: system.terms(params, stats, {}, batch, key, 0)[0]["cross_entropy"])
    assert terms(jax.random.key(0)) == terms(jax.random.key(0)) != terms(jax.random.key(1))
    _, judged = system.evaluate(params, stats, {}, batch)
    assert judged["accuracy"].shape == judged["cross_entropy"].shape == (4,)


def exemplar(smoke):
    config = smoke("classifier_mnist")
    config.network.name, config.image_size, config.data.grey = "exemplar", 32, False
    return config


def test_unknown_networks(smoke):
    config = exemplar(smoke)
    config.network.name = "exemplars"
    with pytest.raises(UserError, match=r"Unknown network.name 'exemplars'. Did you mean 'exemplar'\?"):
        make_system(config, (32, 32, 3))


def test_taps_are_the_classifiers_layers():
    """Also for grey and smallest images; the dense layer takes 32 to 35 pixels."""
    backbone, network = BACKBONES["exemplar_cnn"], ExemplarCnn(10)
    params, images = weights_of(network), uniform(2, 32, 32, 3)
    weights = {name: layer for name, layer in params.items() if name != "logits"}
    layers = network.apply({"params": params}, images)
    taps = backbone.apply(weights, images, tuple(backbone.taps))
    for tap, value in taps.items():
        np.testing.assert_allclose(value, layers[tap], rtol=1e-5, atol=1e-5)
    grey = backbone.apply(weights, images[..., :1], ("relu2",))["relu2"]
    np.testing.assert_array_equal(grey, backbone.apply(weights, images[..., :1].repeat(3, 3), ("relu2",))["relu2"])
    for tap, smallest in backbone.taps.items():
        for size in (smallest, backbone.largest.get(tap, 64)):
            assert backbone.apply(weights, jnp.zeros((1, size, size, 3)), (tap,))[tap].size
    for size in (31, 36):
        with pytest.raises(UserError, match=f"at least 32 and at most 35 pixels for relu4, not {size}"):
            get_backbone("exemplar_cnn", ("relu4",), size)


def test_gradients_reach_every_pixel():
    backbone = BACKBONES["exemplar_cnn"]
    weights = backbone.init(jax.random.key(0), ("relu3",))
    assert list(weights) == ["conv1", "conv2", "conv3"]
    loss = lambda images: jnp.square(backbone.apply(weights, images, ("relu3",))["relu3"]).sum()  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(loss))(uniform(1, 20, 22, 3)))
    assert np.isfinite(gradient).all() and (gradient != 0).all()


def test_from_a_run_to_a_backbone(smoke, tmp_path, monkeypatch):
    """Without the file, the error names two commands; after them the file is found."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "weights"))
    wanting = smoke("dfc_celeba")
    wanting.backbone.update(name="exemplar_cnn", weights="")
    commands = (
        "python -m vae_jax.main --config=configs/exemplar_cnn.py --workdir=runs/exemplar_cnn\n"
        "  python -m pretrained_converters.convert exemplar_cnn --source=runs/exemplar_cnn"
    )
    for ask in (lambda: check_weights(wanting), lambda: convert.convert("exemplar_cnn", None, None)):
        with pytest.raises(UserError) as error:
            ask()
        assert commands in str(error.value)

    train(exemplar(smoke).lock(), str(tmp_path / "run"))
    convert.main(["exemplar_cnn", f"--source={tmp_path / 'run'}"])
    check_weights(wanting)
    params, weights = load_workdir(tmp_path / "run").state.params["classifier"], load_backbone("exemplar_cnn")
    assert params.keys() - weights.keys() == {"logits"}
    for name, layer in weights.items():
        for leaf in layer:
            np.testing.assert_array_equal(layer[leaf], params[name][leaf])
    manifest = json.loads((tmp_path / "weights" / "exemplar_cnn.json").read_text())
    assert manifest["origin"] == "configs/exemplar_cnn.py, synthetic, seed 0, step 4" and "accuracy" in manifest
    assert features("exemplar_cnn", uniform(1, 48, 48, 3)).keys() == {"relu1", "relu2", "relu3"}


def test_runs_of_other_networks(smoke, tmp_path):
    train(smoke("classifier_mnist").lock(), str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"(?s)does not match the network.*missing: .*conv1/kernel \(5, 5, 3"):
        CONVERTERS["exemplar_cnn"](tmp_path / "run", tmp_path / "w.safetensors")
