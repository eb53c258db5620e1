"""Metrics of reconstructions: `metric(target, recon) -> [B]` for images [B, H, W, C] in [0, 1].

A new metric is one file and one line here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vae_jax.data.contract import Dataset
from vae_jax.errors import UserError, look_up
from vae_jax.losses.pixel import bce
from vae_jax.losses.sharpness import mean_variation
from vae_jax.losses.ssim import SIZE as SSIM_WINDOW
from vae_jax.losses.ssim import multiscale_structural_similarity, structural_similarity
from vae_jax.metrics.blur import blur_error, blur_percent
from vae_jax.metrics.digits import digit_accuracy, target_digit_accuracy
from vae_jax.metrics.laplacian import laplacian_variance, residual_laplacian_variance
from vae_jax.metrics.normalised import normalised_error
from vae_jax.metrics.perceptual import FrozenMetric, lpips_alex, lpips_vgg
from vae_jax.metrics.pixel import mse, psnr
from vae_jax.metrics.sides import both_sides
from vae_jax.metrics.spectrum import BANDS, POWER, SPECTRUM
from vae_jax.metrics.upscaling import UPSCALING
from vae_jax.weights.finding import find_weights, has_weights

METRICS = {
    "mse": mse,
    "psnr": psnr,
    "ssim": structural_similarity,
    "ms_ssim": multiscale_structural_similarity,
    "bce": bce,
    **both_sides("laplacian_variance", laplacian_variance),
    "residual_laplacian_variance": residual_laplacian_variance,
    "blur_percent": blur_percent,
    **both_sides("variation", mean_variation),
    "blur_error": blur_error,
    **SPECTRUM,  # spectrum_low, spectrum_middle, spectrum_high: power over the target's, from the next
    **POWER,
    "normalised_error": normalised_error,  # relative to the whole data set being evaluated
    "lpips_alex": lpips_alex,  # version 0.1
    "lpips_vgg": lpips_vgg,
    "digit_accuracy": digit_accuracy,  # MNIST only; needs labels
    "target_digit_accuracy": target_digit_accuracy,
    **UPSCALING,  # psnr_y_x2 and the like, for upscaled images
}


# Of many images these are ratios of means: {name: (metric of the reconstruction, of the target, their ratio)}
RATIOS: dict[str, tuple[str, str, Callable[[float, float], float]]] = {
    "blur_percent": ("variation", "target_variation", lambda z2, z1: 100 * (z1 - z2) / z1 if z1 > 0 else 0.0),
    **{
        f"spectrum_{band}": (
            f"power_{band}",
            f"target_power_{band}",
            lambda own, theirs: own / theirs if theirs else 1.0,
        )
        for band in BANDS
    },
}

# Means that say nothing by themselves: what the ratios are made from
PARTS = frozenset(part for own, theirs, _ in RATIOS.values() for part in (own, theirs))


def default_metrics(image_size: int) -> tuple[str, ...]:
    """The metrics by default: those that load nothing, but no SSIM of images smaller than its window, and lpips_alex if
    its weights are there."""
    names = [name for name, metric in METRICS.items() if not isinstance(metric, FrozenMetric) and name not in UPSCALING]
    if image_size < SSIM_WINDOW:
        names = [name for name in names if name not in ("ssim", "ms_ssim")]
    if image_size >= lpips_alex.min_size and all(map(has_weights, lpips_alex.files)):
        names.append("lpips_alex")
    return tuple(names)


def check_metrics(names: Sequence[str]) -> None:
    """UserError if a metric is unknown or its weights file is missing, before any images are loaded."""
    for name in names:
        metric = look_up(METRICS, name, "metric")
        for file in metric.files if isinstance(metric, FrozenMetric) else ():
            find_weights(file)


def load_metrics(names: Sequence[str], dataset: Dataset) -> dict[str, Any]:
    """The weights of the metrics that have any, for evaluation on `dataset`; UserError if a metric is unknown, its
    weights file is missing, or the data do not fit."""
    image_size, labelled = min(dataset.image_shape[:2]), "label" in dataset.read(np.arange(1))
    metrics = {name: look_up(METRICS, name, "metric") for name in names}
    frozen = {name: metric for name, metric in metrics.items() if isinstance(metric, FrozenMetric)}
    for name, metric in frozen.items():
        if image_size < metric.min_size:
            raise UserError(f"{name} needs images of at least {metric.min_size} pixels, not {image_size}.")
        if metric.labelled and not labelled:
            raise UserError(f"{name} needs labels, but this data set has none.")
    return {name: metric.load(dataset) for name, metric in frozen.items()}


def measure(
    names: Sequence[str],
    weights: Mapping[str, Any],
    target: jax.Array,
    recon: jax.Array,
    labels: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """{metric: [B]} of reconstructions, with the weights from `load_metrics`, and labels [B] if there are any."""
    values = {}
    for name in names:
        metric, arguments = METRICS[name], [target, recon]
        if isinstance(metric, FrozenMetric):
            metric, arguments = metric.apply, [*arguments, weights[name]]
            if METRICS[name].labelled:
                arguments.append(labels)
        values[name] = metric(*arguments)
    return values


def mean_over_images(per_image: Mapping[str, np.ndarray], name: str, chosen: np.ndarray | None = None) -> float:
    """The metric `name` of a set of images, in float64: the mean of its values per image, of those in RATIOS the ratio
    of means. `chosen` is a mask [N] of the images that count; all by default."""

    def mean(values: np.ndarray) -> float:
        return float(values[... if chosen is None else chosen].mean(dtype=np.float64))

    if name not in RATIOS:
        return mean(per_image[name])
    own, target, ratio = RATIOS[name]
    return ratio(mean(per_image[own]), mean(per_image[target]))
