"""Image grids in plain pixels, drawn while a run trains."""

import io
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from vae_jax.data.contract import Dataset
from vae_jax.experiment import Experiment
from vae_jax.runs.workdir import write_bytes
from vae_jax.runtime.rngs import root_key
from vae_jax.runtime.sharding import gather, place, replicated
from vae_jax.state import State, averaged
from vae_jax.train_step import to_float

EXAMPLES = 10
SAMPLES = 10  # rows and columns of the grid of prior samples


def example_indices(labels: np.ndarray | None, size: int, count: int = EXAMPLES) -> np.ndarray:
    """Indices of examples to show: the first of each class if there are several, then others spread over the set."""
    first = np.unique(labels, return_index=True)[1] if labels is not None else np.arange(0)
    first = first if len(first) > 1 else np.arange(0)
    spread = np.unique(np.linspace(0, size - 1, 2 * count if len(first) else count).astype(int))
    return np.concatenate([first, np.setdiff1d(spread, first)])[:count]


def tile(rows: Sequence[np.ndarray], scale: int = 1, gap: int = 2) -> np.ndarray:
    """Rows of images [n, H, W, C] in [0, 1] as one uint8 picture, with white gaps."""
    height, width, channels = rows[0].shape[1:]
    columns = max(len(row) for row in rows)
    canvas = np.ones((len(rows) * (height + gap) + gap, columns * (width + gap) + gap, channels), np.float32)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = gap + r * (height + gap), gap + c * (width + gap)
            canvas[top : top + height, left : left + width] = image
    picture = (255 * np.clip(canvas, 0, 1)).round().astype(np.uint8)
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def save_png(path: Path, picture: np.ndarray) -> None:
    """Writes a uint8 picture [H, W, 1 or 3]."""
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    image.save(png := io.BytesIO(), "png", optimize=True)
    write_bytes(path, png.getvalue())


def make_pictures(experiment: Experiment, dataset: Dataset, mesh: Mesh, seed: int):
    """Returns (state, frozen) -> {name: picture}: `reconstructions`, and `samples` if the system has a prior.

    Reconstructions have the targets above them; with baselines, the rows are baselines, reconstructions and targets.
    Examples and latents are the same at every step, so that pictures differ only by the training.
    """
    system = experiment.system
    labels = dataset.arrays.get("label") if dataset.arrays else None
    chosen = example_indices(labels, dataset.size)
    examples = {**dataset.read(chosen), "index": chosen.astype(np.int32)}
    scale = max(1, 56 // dataset.image_shape[0])

    @jax.jit
    def draw(params, stats, frozen, examples):
        batch = to_float(examples)
        recon, _ = system.evaluate(params, stats, frozen, batch)
        baselines = [baseline(batch) for baseline in system.baselines.values()]
        rows = [*baselines, recon, batch["image"]] if baselines else [batch["image"], recon]
        if not system.prior or system.decode is None:
            return rows, None
        z = jax.random.normal(root_key(seed, "sample"), (SAMPLES * SAMPLES, *system.latent_shape))
        return rows, system.decode(params, stats, z)

    def pictures(state: State, frozen) -> dict[str, np.ndarray]:
        inputs = place(examples, replicated(mesh))
        rows, samples = jax.device_get(draw(*gather(averaged(state), mesh), frozen, inputs))
        drawn = {}
        if all(row is not None for row in rows):
            drawn["reconstructions"] = tile(rows, scale)
        if samples is not None:
            drawn["samples"] = tile(np.split(samples, SAMPLES), scale)
        return drawn

    return pictures
