"""The Fréchet distances of a comparison: originals against reconstructions, and against samples of the prior."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data.contract import Dataset
from vae_jax.inference import Model, Run
from vae_jax.metrics.frechet import Features, frechet_distance, set_moments
from vae_jax.runtime.rngs import root_key

BATCH = 250  # images that are looked at at a time
Images = Callable[[np.ndarray], jax.Array]  # indices [B] -> images [B, H, W, C] in [0, 1]


def make_distances(
    features: Features | None, dataset: Dataset
) -> tuple[Callable[[Run, Model], dict[str, float]], list[str]]:
    """(run, model) -> {name or baseline/name: distance from all images of `dataset`}, and sentences to be told.

    Where `features` are None and the default ones do not fit, there are no distances, and the sentence says why;
    UserError where those that are asked for do not.
    """
    if features is None:
        features = Features()
        if obstacle := features.obstacle(dataset.image_shape, dataset.size):
            return lambda run, model: {}, [f"The Fréchet distance is left out. {obstacle}"]
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
        f"{title}: the Fréchet distance between all {dataset.size:,} images and as many others, by "
        f"{features.width(dataset.image_shape)} features, the spatial means of {features.tap} of {features.network}. "
        "It is of two sets, not a mean over images; 0 is the least."
    ]


def image_sets(run: Run, model: Model, read: Images, size: int) -> dict[str, Images]:
    """What is judged, by the name of its column with {} for that of the distance: reconstructions, `size` samples of
    the prior where the system has one, and what baselines make of the images."""
    sets = {"{}, reconstructions": lambda indices: model.reconstruct(read(indices))}
    if model.has_prior:
        z = jax.random.normal(root_key(run.config.seed, "sample"), (size, *model.latent_shape))
        sets["{}, samples"] = lambda indices: model.decode(z[indices])
    for name, baseline in run.experiment.system.baselines.items():
        sets[f"{name}/{{}}, reconstructions"] = lambda indices, call=baseline: call({"image": read(indices)})
    return sets
