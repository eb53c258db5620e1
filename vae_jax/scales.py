"""Measures the image terms of a config: between different training images, and between images and blurred copies.

    python -m vae_jax.scales --config=NAME[:variant] [--images=200] [--config.KEY=VALUE ...]

prints them next to the weights, and for each term the weight that makes it as large as the squared error at its own
weight (1 if the config has no term l2): a first weight for a loss whose paper gives none. A Gaussian blur of two pixels
is about what a VAE with a vector of latents does to a photograph.
"""

from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from scipy.ndimage import gaussian_filter

from vae_jax import cli
from vae_jax.config import check_config, check_weights, image_shape
from vae_jax.data import load_dataset
from vae_jax.errors import UserError
from vae_jax.losses import IMAGE_TERMS, PERCEPTUAL_TERMS, l2
from vae_jax.reports import page
from vae_jax.runtime.sharding import check_devices
from vae_jax.systems.image_terms import make_image_terms

PARTNERS = 5  # other images to compare each image with
BATCH = 25
BLUR = 2.0  # pixels


class Scale(NamedTuple):
    """One term.

    weight: from the config. distance, blur: unweighted means over pairs of different images, and over images and their
    blurred copies. like_l2, blur_like_l2: the weights that make these as large as the weighted squared error.
    """

    term: str
    weight: float
    distance: float
    like_l2: float
    blur: float
    blur_like_l2: float


def scales(config: ConfigDict, count: int = 200) -> list[Scale]:
    """The sizes of a config's image terms on `count` images, evenly spread over its training split."""
    dataset = load_dataset(config, config.data.train)
    if not 2 <= count <= dataset.size:
        raise UserError(f"--images is {count}; expected 2 to {dataset.size:,}, the size of split {config.data.train}.")
    images = dataset.read(np.linspace(0, dataset.size - 1, count).astype(int))["image"].astype(np.float32) / 255
    others = [name for name in config.terms if name not in PERCEPTUAL_TERMS | IMAGE_TERMS]
    image_terms = make_image_terms(config, others)
    reference = config.terms.l2.weight if "l2" in config.terms else 1.0

    @jax.jit
    def distances(frozen, target: jax.Array, other: jax.Array) -> dict[str, jax.Array]:
        return {"": l2(target, other)} | image_terms.values(frozen, {"image": target}, other)

    def mean(others: list[np.ndarray]) -> dict[str, float]:
        measured = [
            jax.device_get(distances(frozen, images[part], other[part]))
            for other in others
            for part in np.array_split(np.arange(count), -(-count // BATCH))
        ]
        return {k: float(np.concatenate([m[k] for m in measured]).mean(dtype=np.float64)) for k in measured[0]}

    frozen = image_terms.frozen()
    different = mean([images[partners] for partners in _partners(count)])
    blurred = mean([gaussian_filter(images, (0, BLUR, BLUR, 0))])

    def like_l2(name: str, means: dict[str, float]) -> tuple[float, float]:
        return means[name], reference * means[""] / means[name]

    return [
        Scale(name, config.terms[name].weight, *like_l2(name, different), *like_l2(name, blurred))
        for name in image_terms.names
    ]


def _partners(count: int) -> list[np.ndarray]:
    """Permutations [count] without fixed points: rotations of one shuffled circle."""
    order = np.random.default_rng(0).permutation(count)
    shifts = range(1, min(PARTNERS, count - 1) + 1)
    return [np.roll(order, -shift)[np.argsort(order)] for shift in shifts]


def main(config: ConfigDict | None) -> None:
    """The command line."""
    if config is None:
        raise UserError("Choose a config: --config=NAME or --config=FILE.py.")
    check_config(config)
    check_weights(config)
    check_devices()
    height, width, _ = image_shape(config)
    print(f"{IMAGES.value} images of {config.data.name}, split {config.data.train}, {height}x{width}\n")
    header = ["term", "weight", "between images", "weight to match l2", "from blurred copies", "weight to match l2"]
    rows = [[scale.term, *(f"{value:.4g}" for value in scale[1:])] for scale in scales(config, IMAGES.value)]
    print(page.markdown_table(header, rows), end="")


if __name__ == "__main__":
    IMAGES = flags.DEFINE_integer("images", 200, "Number of images from the training split.")
    cli.run(main, takes="config")
