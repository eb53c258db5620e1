"""The Fréchet distances of a comparison: between originals and reconstructions, and originals and prior samples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data.contract import Dataset
from vae_jax.inference import Model, Run
from vae_jax.metrics.frechet import Features, frechet_distance, set_moments
from vae_jax.runtime.rngs import root_key

BATCH = 250  # images per batch
Images = Callable[[np.ndarray], jax.Array]  # indices [B] -> images [B, H, W, C] in [0, 1]


def make_distances(
    features: Features | None, dataset: Dataset
) -> tuple[Callable[[Run, Model], dict[str, float]], list[str]]:
    """Returns (run, model) -> {name or baseline/name: distance to all images of `dataset`}, and notes on them.

    If `features` is None and the default features cannot be computed, there are no distances, and the note says why.
    UserError if the given features cannot be computed.
    """
    if features is None:
        features = Features()
        if obstacle := features.obstacle(dataset.image_shape, dataset.size):
            return lambda run, model: {}, [f"The Fréchet distance is omitted. {obstacle}"]
    features.check(dataset.image_shape, dataset.size)
    embed, title = features.load(), features.distance_name(dataset.image_shape[0], dataset.size)

    def read(indices: np.ndarray) -> jax.Array:
        return jnp.asarray(dataset.read(indices)["image"], jnp.float32) / 255

    def moments(images: Images):
        return set_moments(embed, images, dataset.size, BATCH)

    originals = moments(read)

    def distances(run: Run, model: Model) -> dict[str, float]:
        sets = image_sets(run, model, read, dataset.size).items()
        return {name.format(title): frechet_distance(originals, moments(images)) for name, images in sets}

    return distances, [
        f"{title}: the Fréchet distance between all {dataset.size:,} images and as many reconstructions or samples, "
        f"computed from {features.width(dataset.image_shape)} features, the spatial means of {features.network} "
        f"{features.tap}. It compares two sets and is not a mean over images; its minimum is 0."
    ]


def image_sets(run: Run, model: Model, read: Images, size: int) -> dict[str, Images]:
    """The sets to compare with the originals, by column name with {} in place of the distance's name.

    They are the reconstructions, `size` samples if the system has a prior, and the output of each baseline.
    """
    sets = {"{}, reconstructions": lambda indices: model.reconstruct(read(indices))}
    if model.has_prior:
        z = jax.random.normal(root_key(run.config.seed, "sample"), (size, *model.latent_shape))
        sets["{}, samples"] = lambda indices: model.decode(z[indices])
    for name, baseline in run.experiment.system.baselines.items():
        sets[f"{name}/{{}}, reconstructions"] = lambda indices, call=baseline: call({"image": read(indices)})
    return sets
