"""Turns weights from elsewhere into ours, offline.

    python -m pretrained_converters.convert mnist_classifier --source=classifier.h5 [--output=FILE.safetensors]
    python -m pretrained_converters.convert mnist_classifier --source=runs/classifier_mnist
    python -m pretrained_converters.convert vae_mnist --source=vae_weights.h5 --output=runs/article_vae

A perceptual network becomes safetensors with a manifest, by default where weights are looked for. A trained VAE
becomes a workdir, for vae_jax.evaluate and vae_jax.compare.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from configs import dfc_mnist, vae_mnist
from pretrained_converters import keras_hdf5
from vae_jax.backbones import BACKBONES
from vae_jax.backbones.weights import fit, save_weights, weights_dir
from vae_jax.checkpoint import Checkpoints
from vae_jax.errors import UserError, look_up
from vae_jax.experiment import make_experiment
from vae_jax.inference import load_workdir
from vae_jax.state import digest, eval_params, flatten
from vae_jax.workdir import open_workdir

ARTICLE = {"origin": "krasserm/bayesian-machine-learning, autoencoder-applications", "licence": "Apache-2.0"}


def mnist_classifier(source: Path, output: Path | None) -> Path:
    """The article's classifier (Keras 2 HDF5), or a workdir of configs/classifier_mnist.py."""
    output = output or weights_dir() / "mnist_classifier.safetensors"
    if output.suffix != ".safetensors":
        raise UserError(f"Weights are written as .safetensors with a .json beside them; --output is {output}.")
    expected = jax.eval_shape(lambda: BACKBONES["mnist_classifier"].init(jax.random.key(0), ()))
    if source.is_dir():
        run = load_workdir(source)
        if set(run.state.params) != {"classifier"}:
            raise UserError(f"{source} holds the players {', '.join(run.state.params)}, not a classifier.")
        weights = fit(flatten(eval_params(run.state)["classifier"]), expected, str(source))
        manifest = {
            "origin": f"configs/classifier_mnist.py, {run.config.data.name}, seed {run.config.seed}, "
            f"step {int(run.state.step)}",
            "state_digest": digest(run.state.params),
            "licence": "Apache-2.0",
        }
    else:
        weights = fit(keras_hdf5.read_classifier(source), expected, str(source))
        manifest = {**ARTICLE, "source": source.name, "source_sha256": _sha256(source)}
    save_weights(output, weights, manifest)
    return output


def article_vae(get_config: Callable[[], ConfigDict]) -> Callable[[Path, Path | None], Path]:
    """A converter of the article's trained VAE (Keras 2 HDF5 weights) to a workdir of that config."""

    def convert(source: Path, output: Path | None) -> Path:
        if output is None:
            raise UserError("A trained VAE becomes a workdir: say which with --output=DIR.")
        if (output / "checkpoints").exists():
            raise UserError(f"{output} holds a run already. Take another --output.")
        config = get_config()
        leaves = {f"vae/{name}": leaf for name, leaf in keras_hdf5.read_vae(source).items()}
        state = make_experiment(config, (28, 28, 1), labelled=True).init()
        params = jax.tree.map(jnp.asarray, fit(leaves, state.params, str(source)))
        config.name = f"article_{config.name}"
        workdir = open_workdir(output, config)
        Checkpoints(workdir).save(state._replace(params=params, step=jnp.asarray(config.steps, jnp.int32)))
        return workdir

    return convert


CONVERTERS = {
    "mnist_classifier": mnist_classifier,
    "vae_mnist": article_vae(vae_mnist.get_config),
    "dfc_mnist": article_vae(dfc_mnist.get_config),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=", ".join(CONVERTERS))
    parser.add_argument("--source", type=Path, required=True, help="file or folder to read")
    parser.add_argument("--output", type=Path, help="file or folder to write")
    args = parser.parse_args(argv)
    try:
        convert = look_up(CONVERTERS, args.name, "converter")
        if not args.source.exists():
            raise UserError(f"There is no {args.source} (--source).")
        print(f"wrote {convert(args.source, args.output)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
