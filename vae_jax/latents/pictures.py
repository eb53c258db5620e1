"""The pictures of `vae_jax.latents`, PNGs by title."""

from collections.abc import Mapping, Sequence

import numpy as np

from vae_jax.data.contract import Attributes, Dataset
from vae_jax.inference import Model
from vae_jax.latents.vectors import INTERPOLATION_STEPS, STEPS, interpolate, walk, where
from vae_jax.reports import figures
from vae_jax.reports.grids import example_indices
from vae_jax.runtime.rngs import root_key

IMAGES = 5  # rows per picture
SAMPLES = 10  # prior samples per row


def along_vectors(
    model: Model, dataset: Dataset, z: np.ndarray, attributes: Attributes, vectors: Mapping[str, np.ndarray]
) -> dict[str, bytes]:
    """Walks along each vector, and arithmetic with pairs of them, from images of `dataset` and their z."""
    pictures = {}
    for name, vector in vectors.items():
        without = np.flatnonzero(~where(attributes, name))
        if not without.size:
            continue
        chosen = without[np.unique(np.linspace(0, len(without) - 1, IMAGES).astype(int))]
        images = np.concatenate([_read(dataset, chosen)[:, None], walk(model, z[chosen], vector)], axis=1)
        rows = [(f"towards\n{name}" if line == 0 else "", row) for line, row in enumerate(images)]
        pictures[f"Walk {name}"] = figures.image_rows(rows, ["image", "t = 0", *(f"{t:g}" for t in STEPS[1:])])
    rows = []
    for plus, minus in zip(vectors, [*vectors][1:] + [*vectors][:1], strict=True):
        for i in np.flatnonzero(where(attributes, minus) & ~where(attributes, plus))[:1]:
            path = z[i] + np.stack([0 * z[i], vectors[plus], vectors[plus] - vectors[minus]])
            rows.append((f"A = {plus}\nB = {minus}", np.concatenate([_read(dataset, [i]), model.decode(path)])))
    if rows:
        pictures["Arithmetic"] = figures.image_rows(rows, ["image", "z", "z + A", "z + A − B"])
    return pictures


def interpolations(model: Model, dataset: Dataset) -> dict[str, bytes]:
    """Interpolations between the first examples of two classes, or between any examples if there are no classes."""
    labels = dataset.arrays.get("label") if dataset.arrays else None
    images = _read(dataset, example_indices(labels, dataset.size, 2 * IMAGES))
    return {"Interpolation": interpolations_between(model, images)} if len(images) > 1 else {}


def interpolations_between(model: Model, images: np.ndarray) -> bytes:
    """A PNG of interpolations from the first of images [N, H, W, C] to the second, the third to the fourth, ..."""
    rows = [
        ("", np.concatenate([first[None], interpolate(model, first, last), last[None]]))
        for first, last in zip(images[::2], images[1::2], strict=False)
    ]
    shares = [f"{share:g}" for share in np.linspace(0, 1, INTERPOLATION_STEPS + 1).round(2)]
    return figures.image_rows(rows, ["image", *shares, "image"])


def prior_samples(model: Model, temperature: float) -> dict[str, bytes]:
    """Images decoded from samples of the prior, multiplied by the temperature."""
    images = model.sample(root_key(model.config.seed, "sample"), IMAGES * SAMPLES, temperature)
    rows = np.split(np.asarray(images), IMAGES)
    labels = [f"z ~ N(0, {temperature:g}²)"] + [""] * (IMAGES - 1)
    return {"Prior samples": figures.image_rows(list(zip(labels, rows, strict=True)))}


def _read(dataset: Dataset, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Images [n, H, W, C] of a data set in [0, 1]."""
    return dataset.read(np.asarray(indices))["image"].astype(np.float32) / 255
