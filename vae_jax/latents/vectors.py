"""Latents of images: attribute vectors, walks along them, and interpolations between images."""

import numpy as np

from vae_jax.data.contract import Attributes, Dataset
from vae_jax.data.pipeline import padded_indices
from vae_jax.errors import UserError
from vae_jax.inference import Model

STEPS = np.linspace(0, 1.5, 7)  # t of a walk along an attribute vector
INTERPOLATION_STEPS = 10
PROGRESS = 20_000  # images between two progress lines


def encode_dataset(model: Model, dataset: Dataset) -> np.ndarray:
    """Means of q(z | x) for all images of a data set, in its order: [N, *latent_shape]."""
    batch_size = min(model.config.eval_batch_size, dataset.size)
    indices, mask = padded_indices(dataset.size, batch_size)
    parts = []
    for number, index in enumerate(indices):
        parts.append(np.asarray(model.encode(model.observe(dataset.read(index)["image"]))[0]))
        done = min((number + 1) * batch_size, dataset.size)
        if number * batch_size // PROGRESS < done // PROGRESS:
            print(f"encoded {done:,} of {dataset.size:,} images", flush=True)
    return np.concatenate(parts)[mask.ravel()]


def attribute_vectors(z: np.ndarray, attributes: Attributes) -> dict[str, np.ndarray]:
    """{name: mean of the latents z [N, *latent_shape] with the attribute minus the mean of those without it}."""
    vectors = {}
    for name, on in zip(attributes.names, attributes.values.T, strict=True):
        if on.all() or not on.any():
            raise UserError(
                f"The attribute {name!r} has no vector: it is {'never off' if on.all() else 'never on'} in these "
                f"{len(on):,} examples. Omit it, or use examples with and without it."
            )
        vectors[name] = z[on].mean(axis=0, dtype=np.float64) - z[~on].mean(axis=0, dtype=np.float64)
    return vectors


def where(attributes: Attributes, name: str) -> np.ndarray:
    """Mask [N] of the examples with the attribute; all False if the split lacks it, such as a class not in it."""
    if name not in attributes.names:
        return np.zeros(len(attributes.values), bool)
    return attributes.values[:, attributes.names.index(name)]


def walk(model: Model, z: np.ndarray, vector: np.ndarray, steps: np.ndarray = STEPS) -> np.ndarray:
    """Images [N, T, H, W, C] decoded from z + t * vector, for z [N, *latent_shape], vector [*latent_shape], t [T]."""
    path = np.asarray(z)[:, None] + np.multiply.outer(np.asarray(steps), np.asarray(vector))
    images = np.asarray(model.decode(path.reshape(-1, *path.shape[2:])))
    return images.reshape(*path.shape[:2], *images.shape[1:])


def interpolate(model: Model, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """11 images decoded along the straight line between the means of q(z | x) of two images [H, W, C]."""
    start, stop = np.asarray(model.encode(model.observe(np.stack([first, last])))[0])
    return walk(model, start[None], stop - start, np.linspace(0, 1, INTERPOLATION_STEPS + 1))[0]
