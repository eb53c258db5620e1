"""The article's Keras files: imitations in Keras's layout, and the real ones where available."""

import json
import zipfile

import jax
import numpy as np
import pytest
from golden.formula import fill
from helpers.checks import ROOT

from pretrained_converters import convert, converters
from pretrained_converters.keras_hdf5 import read_classifier, read_vae
from vae_jax import load_model
from vae_jax.backbones import BACKBONES, load_backbone
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, load_eval_dataset
from vae_jax.inference import load_workdir
from vae_jax.models.mnist import MnistEncoder
from vae_jax.train import train

h5py = pytest.importorskip("h5py")

CLASSIFIER = {
    "conv2d_6": ("conv1", (3, 3, 1, 32)), "conv2d_7": ("conv2", (3, 3, 32, 64)), "conv2d_8": ("conv3", (3, 3, 64, 64)),
    "dense_8": ("dense", (576, 64)), "dense_9": ("logits", (64, 10)),
}  # fmt: skip
ENCODER = {  # as the article's DFC-VAE calls them
    "conv2d_5": (3, 3, 1, 32), "conv2d_6_1": (3, 3, 32, 64), "conv2d_7_1": (3, 3, 64, 64),
    "conv2d_8_1": (3, 3, 64, 64), "dense_3": (12544, 32), "t_mean": (32, 5), "t_log_var": (32, 5),
}  # fmt: skip
DECODER = {"dense_4": (5, 12544), "conv2d_transpose_2": (3, 3, 32, 64), "image_1": (3, 3, 32, 1)}


def write(group, layers):
    rng = np.random.default_rng(len(group.name))
    for layer, shape in layers.items():
        out = shape[-2] if "transpose" in layer else shape[-1]
        group[f"{layer}/kernel:0"] = 0.1 * rng.normal(size=shape).astype(np.float32)
        group[f"{layer}/bias:0"] = rng.normal(size=out).astype(np.float32)
    group.attrs["weight_names"] = [f"{layer}/{leaf}:0".encode() for layer in layers for leaf in ("kernel", "bias")]


@pytest.fixture
def classifier_file(tmp_path):
    with h5py.File(tmp_path / "classifier.h5", "w") as file:
        for layer, (_, shape) in CLASSIFIER.items():
            write(file.create_group(f"model_weights/{layer}"), {layer: shape})
        write(file.create_group("model_weights/max_pooling2d_1"), {})
        file["model_weights"].attrs["layer_names"] = ["conv2d_6", "max_pooling2d_1", *list(CLASSIFIER)[1:]]
        file["optimizer_weights/training_1/Variable:0"] = np.zeros(3)
    return tmp_path / "classifier.h5"


@pytest.fixture
def vae_file(tmp_path):
    with h5py.File(tmp_path / "vae_weights.h5", "w") as file:
        for name, layers in (("image", {}), ("encoder", ENCODER), ("sampler", {}), ("decoder", DECODER)):
            write(file.create_group(name), layers)
        file.attrs["layer_names"] = ["image", "encoder", "sampler", "decoder"]
    return tmp_path / "vae_weights.h5"


def test_classifier(classifier_file, tmp_path, monkeypatch):
    """By default it is written where it is then looked up."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "weights"))
    convert.main(["mnist_classifier", f"--source={classifier_file}"])
    weights = load_backbone("mnist_classifier")
    with h5py.File(classifier_file) as file:
        for layer, (name, _) in CLASSIFIER.items():
            for leaf in ("kernel", "bias"):
                np.testing.assert_array_equal(weights[name][leaf], file[f"model_weights/{layer}/{layer}/{leaf}:0"])


def test_vae_becomes_a_workdir(vae_file, tmp_path):
    convert.main(["dfc_mnist", f"--source={vae_file}", f"--output={tmp_path / 'run'}"])
    run = load_workdir(tmp_path / "run")
    assert run.config.name == "article_dfc_mnist" and int(run.state.step) == 28_125
    with h5py.File(vae_file) as file:
        params = run.state.params["vae"]
        for ours, theirs in (("conv1", "conv2d_5"), ("conv3", "conv2d_7_1"), ("logvar", "t_log_var")):
            np.testing.assert_array_equal(params["encoder"][ours]["kernel"], file[f"encoder/{theirs}/kernel:0"])
        np.testing.assert_array_equal(
            params["decoder"]["upconv"]["kernel"], file["decoder/conv2d_transpose_2/kernel:0"]
        )
    assert load_model(tmp_path / "run").reconstruct(np.zeros((1, 28, 28, 1))).shape == (1, 28, 28, 1)


def test_a_trained_classifier_becomes_weights(tmp_path, smoke):
    train(smoke("classifier_mnist").lock(), str(tmp_path / "run"))
    convert.main(["mnist_classifier", f"--source={tmp_path / 'run'}", f"--output={tmp_path / 'w.safetensors'}"])
    weights = load_backbone("mnist_classifier", tmp_path / "w.safetensors")
    judged = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())["accuracy"]
    assert json.loads((tmp_path / "w.json").read_text())["accuracy"] == judged
    state = load_workdir(tmp_path / "run").state
    for a, b in zip(jax.tree.leaves(weights), jax.tree.leaves(state.params["classifier"]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_file_that_keras_writes(tmp_path):
    """Keras 2 and 3, weights and whole models, with the article's names and with Keras's own; see make_keras.py."""
    with zipfile.ZipFile(ROOT / "tests" / "golden" / "keras.zip") as archive:
        archive.extractall(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 22
    for path in files:
        read, leaves = (read_classifier, 10) if "classifier" in path.name else (read_vae, 20)
        arrays = read(path)
        assert len(arrays) == leaves, path
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, fill(name, array.shape), err_msg=f"{path}: {name}")


def test_files_that_do_not_match(classifier_file, vae_file, tmp_path):
    def fails(match, path=classifier_file):
        with pytest.raises(UserError, match=match):
            converters.mnist_classifier(path, tmp_path / "w.safetensors")

    fails("an unexpected layer encoder. It has encoder, decoder; expected conv1, ", vae_file)
    with pytest.raises(UserError, match="no encoder; it has conv2d_6, (?s:.*) the file of a VAE"):
        converters.CONVERTERS["vae_mnist"](classifier_file, tmp_path / "run")
    with h5py.File(classifier_file, "a") as file:
        write(file.create_group("model_weights/conv2d_9"), {"conv2d_9": (3, 3, 64, 64)})
        names = file["model_weights"].attrs
        names["layer_names"] = [*names["layer_names"], "conv2d_9"]
    fails("an unexpected layer conv2d_9")
    with h5py.File(classifier_file, "a") as file:
        file["model_weights"].attrs["layer_names"] = ["conv2d_6", "conv2d_7", "conv2d_8", "dense_9"]
    fails(r"(?s)missing: .*logits/kernel \(64, 10\)")
    with h5py.File(classifier_file, "a") as file:
        del file["model_weights"].attrs["layer_names"]
    fails("not a readable file of Keras's weights .*/model_weights has no list of layer_names")
    for name, content in (("page.h5", b"<html>"), ("cut.h5", classifier_file.read_bytes()[:5_000])):
        (tmp_path / name).write_bytes(content)
        fails(f"{name} is not a readable file of Keras's weights", tmp_path / name)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    fails("other.keras is not a readable file of Keras's weights", tmp_path / "other.keras")
    with pytest.raises(UserError, match="--output=DIR"):
        converters.CONVERTERS["vae_mnist"](vae_file, None)


def test_the_real_article(real_data, tmp_path):
    """The article's numbers on the 10,000 test digits: Laplacian variance to four digits, MSE, cross-entropy."""
    output = tmp_path / "article"
    convert.main(["vae_mnist", f"--source={real_data / 'article' / 'vae_weights.h5'}", f"--output={output}"])
    run = load_workdir(output)
    per_image = evaluate_run(run, load_eval_dataset(run, str(real_data / "mnist")))
    ones = per_image["label"] == 1
    assert (ones.sum(), (~ones).sum()) == (1135, 8865)
    means = [
        per_image[name][mask].mean(dtype=np.float64)
        for name in ("laplacian_variance", "target_laplacian_variance")
        for mask in (~ones, ones)
    ]
    assert [round(mean, 4) for mean in means] == [0.0352, 0.0434, 0.1673, 0.0867]
    assert round(per_image["mse"].mean(dtype=np.float64), 5) == 0.02754
    assert round(per_image["bce"].mean(dtype=np.float64), 2) == 113.15


def test_units_alive_in_the_real_article(real_data, tmp_path):
    """5 of the 32 dense units of its encoder ever fire: why configs/vae_mnist.py warms up the learning rate."""
    from vae_jax.data.idx import read_idx

    output = tmp_path / "article"
    convert.main(["vae_mnist", f"--source={real_data / 'article' / 'vae_weights.h5'}", f"--output={output}"])
    images = read_idx(real_data / "mnist" / "t10k-images-idx3-ubyte.gz")[:1000, ..., None] / np.float32(255)
    encoder = load_workdir(output).state.params["vae"]["encoder"]
    _, layers = MnistEncoder(5).apply({"params": encoder}, images, capture_intermediates=True)
    dense = np.asarray(layers["intermediates"]["dense"]["__call__"][0])  # before the ReLU
    assert (dense.max(axis=0) > 0).sum() == 5


def test_the_real_classifiers(real_data, tmp_path):
    """Both get at least 99 % of the test digits right; the ratio of scales that configs/dfc_mnist.py gives."""
    from vae_jax.data.idx import read_idx

    article = converters.mnist_classifier(real_data / "article" / "classifier.h5", tmp_path / "w.safetensors")
    images = read_idx(real_data / "mnist" / "t10k-images-idx3-ubyte.gz")[..., None] / np.float32(255)
    labels = read_idx(real_data / "mnist" / "t10k-labels-idx1-ubyte.gz")
    energy = []
    for path in (article, ""):
        features = jax.jit(BACKBONES["mnist_classifier"].apply, static_argnums=2)(
            load_backbone("mnist_classifier", path), images, ("relu1", "relu2", "logits")
        )
        assert (np.argmax(features["logits"], 1) == labels).mean() >= 0.990
        energy.append([float((features[tap] ** 2).mean()) for tap in ("relu1", "relu2")])
    np.testing.assert_allclose(np.divide(*energy), [2.5, 2.5], atol=0.1)
