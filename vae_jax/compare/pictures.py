"""The pictures of a comparison, PNGs by title."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.compare.numbers import Entry, sharpness_of
from vae_jax.compare.tables import ORIGINALS, SHARPNESS, column
from vae_jax.data.contract import Dataset, class_name
from vae_jax.inference import Model
from vae_jax.latents.vectors import interpolate
from vae_jax.metrics import mean_over_images
from vae_jax.metrics.spectrum import radial_power, ring_frequencies
from vae_jax.reports import figures
from vae_jax.reports.grids import example_indices
from vae_jax.runs.workdir import read_lines

ARTICLE_DIGITS = np.array([5531, 2553, 1432, 4526, 9960, 6860, 6987, 3720, 5003, 9472])  # 0..9 in MNIST's test split
INTERPOLATIONS = ((1, 5), (1, 3), (3, 7))  # between the examples of these classes
SPECTRA = 250  # images whose spectra are drawn
PLANE = "psnr", "lpips_alex"  # distortion and perception (Blau and Michaeli 2018, The Perception-Distortion Tradeoff)
MODELS = 8  # with more models, each has only one row of samples


def pictures_of(
    entries: Sequence[Entry], dataset: Dataset, subsets: Mapping[str, np.ndarray], key: jax.Array
) -> dict[str, bytes]:
    """The figures of the article, for the first run of each entry; `subsets` {title: mask [N]} have histograms."""
    judged = {entry.name: entry.judged[0] for entry in entries}
    models = {name: run.model for name, run in judged.items()}
    baselines = {name: call for run in judged.values() for name, call in run.run.experiment.system.baselines.items()}
    labels, variances = entries[0].judged[0].per_image.get("label"), sharpness_of(entries)

    chosen = _examples(labels, dataset, figures.columns(1 + len(baselines) + len(models), dataset.image_shape))
    examples = dataset.read(chosen)["image"].astype(np.float32) / 255
    rows = [(ORIGINALS, examples)]
    rows += [(name, np.asarray(baseline({"image": jnp.asarray(examples)}))) for name, baseline in baselines.items()]
    rows += [(name, np.asarray(model.reconstruct(examples))) for name, model in models.items()]
    pictures = {"Reconstructions": figures.image_rows(rows)}
    pictures |= _plane(entries)
    pictures["Power by spatial frequency"] = _spectra(models, dataset)
    if labels is not None:
        pictures[f"{SHARPNESS} per class"] = figures.box_plot(variances, labels, SHARPNESS, dataset.classes)
    pictures[SHARPNESS] = figures.histograms(variances, subsets, SHARPNESS)
    classes = np.array([]) if labels is None else labels[chosen]
    for a, b in INTERPOLATIONS:
        if {a, b} <= set(classes):
            images = [examples[np.flatnonzero(classes == c)[0]] for c in (a, b)]
            rows = [(name, _some(interpolate(model, *images), len(models))) for name, model in models.items()]
            ends = "-".join(class_name(c, dataset.classes) for c in (a, b))
            pictures[f"Interpolation {ends}"] = figures.image_rows(rows)
    priors = {name: model for name, model in models.items() if model.has_prior}
    if priors:
        pictures["Prior samples"] = figures.image_rows(_samples(priors, dataset.image_shape, key))
    return pictures | _balances(entries)


def _plane(entries: Sequence[Entry]) -> dict[str, bytes]:
    """The plane of distortion and perception with a point for each run, if all have both metrics."""
    if not all(name in one.per_image for entry in entries for one in entry.judged for name in PLANE):
        return {}

    def means(entry: Entry, metric: str) -> list[float]:
        return [mean_over_images(one.per_image, metric) for one in entry.judged]

    x, y = PLANE
    values = {entry.name: (means(entry, x), means(entry, y)) for entry in entries}
    return {"Distortion and perception": figures.points(values, column(x)[0], column(y)[0])}


def _spectra(models: Mapping[str, Model], dataset: Dataset) -> bytes:
    """The mean power of reconstructions at each spatial frequency, over that of the originals."""
    chosen = example_indices(None, dataset.size, min(dataset.size, SPECTRA))
    originals = dataset.read(chosen)["image"].astype(np.float32) / 255
    spectrum = jax.jit(lambda images: jnp.mean(radial_power(images), axis=0))
    target = np.asarray(spectrum(originals))
    ratios = {name: np.asarray(spectrum(model.reconstruct(originals))) / target for name, model in models.items()}
    frequencies = ring_frequencies(*dataset.image_shape[:2])
    return figures.lines(ratios, frequencies, "cycles per pixel", "power / originals'")


def _some(images: np.ndarray, rows: int) -> np.ndarray:
    """As many of the images [n, H, W, C], evenly spaced from first to last, as fit into a picture of `rows` rows."""
    small = images.shape[1] < figures.PHOTOGRAPH
    count = len(images) if small else min(len(images), figures.columns(rows, images.shape[1:]))
    return images[np.linspace(0, len(images) - 1, count).round().astype(int)]


def _samples(models: Mapping[str, Model], shape: Sequence[int], key: jax.Array) -> list[tuple[str, np.ndarray]]:
    """Samples from the prior of each model: two rows of small images, or one of photographs or for many models."""
    lines = 2 if shape[0] < figures.PHOTOGRAPH and len(models) <= MODELS else 1
    columns = figures.columns(lines * len(models), shape)
    return [
        (name if line == 0 else "", images)
        for name, model in models.items()
        for line, images in enumerate(np.split(np.asarray(model.sample(key, lines * columns)), lines))
    ]


def _balances(entries: Sequence[Entry]) -> dict[str, bytes]:
    """Training curves of each run with several players: their losses, and how often they were updated."""
    pictures = {}
    for entry in entries:
        judged = entry.judged[0]
        players = judged.run.experiment.system.rules
        records = read_lines(Path(judged.workdir) / "scalars.jsonl")
        if len(players) > 1:
            terms = [name for name in figures.logged(records) if "/" not in name and name != "images_per_second"]
            names = [*terms, *(f"updated/{player}" for player in players)]
            names = figures.informative(records, names)
            pictures[f"Training of {entry.name}"] = figures.curves(records, names)
    return pictures


def _examples(labels: np.ndarray | None, dataset: Dataset, count: int) -> np.ndarray:
    """The article's ten digits for MNIST's test images, `example_indices` otherwise."""
    if labels is not None and dataset.size == 10_000 and np.array_equal(labels[ARTICLE_DIGITS], np.arange(10)):
        return ARTICLE_DIGITS
    return example_indices(labels, dataset.size, count)
