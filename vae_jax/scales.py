"""How large the image terms of a config are: their means between different training images.

    python -m vae_jax.scales --config=configs/NAME.py[:variant] [--images=200] [--config.KEY=VALUE ...]

prints them beside the weights, and for each term the weight with which two different images are as far apart by it as
by squared errors with theirs (1, where the config has no term l2): a first weight for a loss whose paper gives none.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from vae_jax import cli, page
from vae_jax.config import image_shape
from vae_jax.data import load_dataset
from vae_jax.errors import UserError
from vae_jax.losses import IMAGE_TERMS, l2
from vae_jax.systems.image_terms import make_image_terms
from vae_jax.weight_files import check_weights

PARTNERS = 5  # other images that each image is compared with
BATCH = 25


class Scale(NamedTuple):
    """One term.

    distance: its unweighted mean over pairs of different images. weight: the config's. like_l2: the weight with which
    that mean would be as large as that of the weighted squared errors.
    """

    term: str
    distance: float
    weight: float
    like_l2: float


def scales(config: ConfigDict, count: int = 200) -> list[Scale]:
    """The image terms of a config on `count` images of its training split, spread evenly."""
    dataset = load_dataset(config, config.data.train)
    if not 2 <= count <= dataset.size:
        raise UserError(f"--images is {count}; expected 2 to {dataset.size:,}, the images of {config.data.train}.")
    images = dataset.read(np.linspace(0, dataset.size - 1, count).astype(int))["image"].astype(np.float32) / 255
    image_terms = make_image_terms(config, [name for name in config.terms if name not in ("feature", *IMAGE_TERMS)])
    reference = config.terms.l2.weight if "l2" in config.terms else 1.0

    @jax.jit
    def distances(frozen, target: jax.Array, other: jax.Array) -> dict[str, jax.Array]:
        return {"": l2(target, other)} | image_terms.values(frozen, target, other)

    frozen, measured = image_terms.frozen(), []
    for other in _partners(count):
        for part in np.array_split(np.arange(count), -(-count // BATCH)):
            measured.append(jax.device_get(distances(frozen, images[part], images[other[part]])))
    mean: dict[str, Any] = {
        name: float(np.concatenate([values[name] for values in measured]).mean(dtype=np.float64))
        for name in measured[0]
    }
    return [
        Scale(name, mean[name], config.terms[name].weight, reference * mean[""] / mean[name])
        for name in image_terms.names
    ]


def _partners(count: int) -> list[np.ndarray]:
    """Permutations [count] that leave no image in its place: turns of one shuffled circle."""
    order = np.random.default_rng(0).permutation(count)
    turns = range(1, min(PARTNERS, count - 1) + 1)
    return [np.roll(order, -turn)[np.argsort(order)] for turn in turns]


def main() -> None:
    """The command line."""
    if "config" not in flags.FLAGS:
        raise UserError("Say whose terms to measure: --config=configs/NAME.py.")
    config = flags.FLAGS.config
    check_weights(config)
    height, width, _ = image_shape(config)
    print(f"{IMAGES.value} images of {config.data.name}, split {config.data.train}, {height}x{width}\n")
    header = ["term", "between different images", "weight", "weight like l2's"]
    rows = [[s.term, f"{s.distance:.5g}", f"{s.weight:.5g}", f"{s.like_l2:.3g}"] for s in scales(config, IMAGES.value)]
    print(page.markdown_table(header, rows), end="")


if __name__ == "__main__":
    IMAGES = flags.DEFINE_integer("images", 200, "How many images of the split to learn from.")
    cli.run(main)
