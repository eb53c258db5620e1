"""The one evaluation, in the training loop and offline: every metric of every example of the whole split.

    python -m vae_jax.evaluate --workdir=DIR [--metrics=psnr,ssim] [--data_dir=DIR]

writes DIR/eval/metrics.json, DIR/eval/per_image.npz and DIR/report.html.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vae_jax.data.contract import Dataset
from vae_jax.data.pipeline import Feed, padded_indices
from vae_jax.errors import look_up
from vae_jax.metrics import METRICS
from vae_jax.sharding import replicated
from vae_jax.state import State, digest, eval_params
from vae_jax.systems import System
from vae_jax.train_step import to_float
from vae_jax.workdir import write_text

PerImage = dict[str, np.ndarray]  # metric -> [N] float32, 'label' -> [N] int32 where there are labels


def make_evaluate(
    system: System, dataset: Dataset, mesh: Mesh, batch_size: int, metrics: Sequence[str] = tuple(METRICS)
) -> Callable[[State, Any], PerImage]:
    """(state, frozen) -> every metric of every example of `dataset`, in its order.

    The last batch is filled up and the padding dropped again, so that an odd number of examples is judged exactly.
    """
    chosen = {name: look_up(METRICS, name, "metric") for name in metrics}
    batch_size = -(-batch_size // mesh.size) * mesh.size
    indices, mask = padded_indices(dataset.size, batch_size)
    feed = Feed(dataset, mesh)

    def step(params, stats, frozen, batches):
        batch = to_float(jax.tree.map(lambda leaf: leaf[0], batches))
        recon, values = system.evaluate(params, stats, frozen, batch)
        if recon is not None:
            values = values | {name: metric(batch["image"], recon) for name, metric in chosen.items()}
        return values | ({"label": batch["label"]} if "label" in batch else {})

    step = jax.jit(step, out_shardings=replicated(mesh))

    def evaluate(state: State, frozen) -> PerImage:
        parts = [step(eval_params(state), state.stats, frozen, feed(index[None])) for index in indices]
        parts = jax.device_get(parts)
        return {name: np.concatenate([part[name] for part in parts])[mask.ravel()] for name in parts[0]}

    return evaluate


def summarise(per_image: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means over all examples in float64, and means per class where there are labels."""
    labels = per_image.get("label")
    metrics = {name: values.astype(np.float64) for name, values in per_image.items() if name != "label"}
    summary: dict[str, Any] = {"examples": len(next(iter(metrics.values())))}
    summary |= {name: float(values.mean()) for name, values in metrics.items()}
    if labels is not None:
        summary["per_class"] = {
            name: {str(c): float(values[labels == c].mean()) for c in np.unique(labels)}
            for name, values in metrics.items()
        }
    return summary


def write_metrics(folder: Path, state: State, split: str, per_image: PerImage) -> dict[str, Any]:
    """Writes metrics.json and per_image.npz; returns the metrics."""
    metrics = {
        "step": int(state.step), "state_digest": digest(state.params), "split": split, **summarise(per_image)
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    np.savez_compressed(folder / "per_image.npz", **per_image)
    return metrics
