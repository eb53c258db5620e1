"""Compares inversions of features: by generators, and by gradient descent (Dosovitskiy and Brox 2016, 4.3).

    python -m vae_jax.inversion --workdirs=runs/invert_conv5,runs/invert_conv5_se --workdir=DIR [--images=100]
                                [--descent_steps=500] [--data_dir=DIR]

writes inversion.md and inversion.json (table 8: normalised errors of images and of features), inversion.html
(everything, self-contained) and PNGs of reconstructions, of images encoded and inverted repeatedly, of interpolations
between features, and of moved and recoloured objects. All workdirs must invert the same features. --descent_steps=0
omits gradient descent on the image, the slowest part.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from PIL import Image

from vae_jax import cli
from vae_jax.compare.same_data import check_same_images
from vae_jax.config import check_same_keys, check_weights, read_config, row_name
from vae_jax.errors import UserError
from vae_jax.evaluate import load_eval_dataset
from vae_jax.inference import Model, Run, load_workdir
from vae_jax.losses.pixel import l2
from vae_jax.losses.total_variation import total_variation
from vae_jax.metrics.normalised import mean_distance
from vae_jax.reports import page
from vae_jax.reports.study import print_study, write_study
from vae_jax.runtime.rngs import root_key

DESCENT = "gradient descent"
ITERATIONS = (1, 2, 4, 6, 8, 12, 16, 20)  # of encoding and inverting, as in figures 15 and 16
TV_WEIGHT = 20.0  # least feature error on ten training photographs among 1, 5, 20, 50, 100, 200 and 500
RATE = 0.03
MIN_IMAGES = 10
BATCH = 50


def descend(
    features_of: Callable[[jax.Array], jax.Array], target: jax.Array, shape: Sequence[int], key: jax.Array, steps: int
) -> np.ndarray:
    """Images [B, *shape] in [0, 1] with features close to `target` [B, ...], by gradient descent from grey noise.

    Equation (8): ||Phi(x) - Phi||^2 / ||Phi||^2 plus TV_WEIGHT times the total variation per pixel (Mahendran and
    Vedaldi 2015, with Adam in place of their momentum).
    """
    size = jnp.sum(jnp.square(target).reshape(len(target), -1), axis=1)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def loss(x):
        return jnp.sum(l2(target, features_of(x)) / size + TV_WEIGHT * total_variation(x) / np.prod(shape[:2]))

    @jax.jit
    def step(x, state):
        update, state = optimizer.update(jax.grad(loss)(x), state)
        return jnp.clip(cast(jax.Array, optax.apply_updates(x, update)), 0, 1), state

    x = jnp.clip(0.5 + 0.1 * jax.random.normal(key, (len(target), *shape)), 0, 1)
    state = optimizer.init(x)
    for _ in range(steps):
        x, state = step(x, state)
    return np.asarray(x)


def encode_again(model: Model, images: np.ndarray, iterations: Sequence[int] = ITERATIONS) -> list[np.ndarray]:
    """Images [N, H, W, C] after encoding and decoding them repeatedly, one array per count in `iterations`."""
    kept = []
    for count in range(1, max(iterations) + 1):
        images = np.asarray(model.reconstruct(images))
        kept += [images] if count in iterations else []
    return kept


def positions_and_colours(image: np.ndarray) -> np.ndarray:
    """Six variants [6, H, W, C] of an image [H, W, C]: at half size on grey, to the left, in the middle and to the
    right; and at full size, with its colour channels rotated by 0, 1 and 2. Grey images do not change colour."""
    height, width, channels = image.shape
    pixels = Image.fromarray((255 * image).round().astype(np.uint8).squeeze())
    small = np.asarray(pixels.resize((width // 2, height // 2), Image.Resampling.BICUBIC), np.float32) / 255
    small = small.reshape(height // 2, width // 2, channels)
    placed = np.full((3, *image.shape), 0.5, np.float32)
    top = height // 4
    for i, left in enumerate((0, width // 4, width - width // 2)):
        placed[i, top : top + small.shape[0], left : left + small.shape[1]] = small
    return np.concatenate([placed, np.stack([np.roll(image, shift, axis=-1) for shift in range(3)])])


def invert(
    workdirs: Sequence[str], output: str | Path, data_dir: str | None = None, count: int = 100, steps: int = 500
) -> dict[str, Any]:
    """Evaluates all workdirs on the same `count` images, writes the results into `output`, returns inversion.json."""
    if count < MIN_IMAGES:
        raise UserError(f"--images is {count}; expected at least {MIN_IMAGES}.")
    for workdir in workdirs:
        check_weights(read_config(workdir))
    runs = [load_workdir(workdir) for workdir in workdirs]
    _check_same_features(workdirs, runs)
    if data_dir is None:
        check_same_images(workdirs, runs)
    dataset = load_eval_dataset(runs[0], data_dir)
    chosen = np.unique(np.linspace(0, dataset.size - 1, count).astype(int))
    images = dataset.read(chosen)["image"].astype(np.float32) / 255
    models: dict[str, Model] = {}
    for workdir, run in zip(workdirs, runs, strict=True):
        models[row_name(run.config, workdir, [*models, DESCENT])] = Model(run)
    first = next(iter(models.values()))

    # ---- invert --------------------------------------------------------------------------------------------------
    encode = _in_batches(lambda batch: first.encode(batch)[0])
    features = encode(images)
    inverted = {name: _in_batches(model.decode)(features) for name, model in models.items()}
    if steps:
        inverted[DESCENT] = _descend_all(runs[0], features, images.shape[1:], steps)

    # ---- numbers -------------------------------------------------------------------------------------------------
    image_scale, feature_scale = mean_distance(_rows(images)), mean_distance(_rows(features))
    rows = []
    for name, made in inverted.items():
        error = 100 * np.linalg.norm(_rows(made) - _rows(images), axis=1).mean() / image_scale
        feature_error = 100 * np.linalg.norm(_rows(encode(made)) - _rows(features), axis=1).mean() / feature_scale
        rows.append({"name": name, "image_error": float(error), "feature_error": float(feature_error)})
    config = runs[0].config
    record = {
        "inverted": config.inverted.to_dict(),
        "images": len(images),
        "data": config.data.name,
        "split": config.data.eval,
        "descent": {"steps": steps, "tv_weight": TV_WEIGHT, "rate": RATE} if steps else None,
        "workdirs": list(workdirs),
        "rows": rows,
    }

    # ---- write ---------------------------------------------------------------------------------------------------
    layer, table = f"{config.inverted.name} {config.inverted.tap}", _table(record)
    lead = (
        f"Normalised errors of {len(images):,} images of {config.data.name}, split {config.data.eval}, reconstructed "
        f"from {layer}: 100 % is the mean distance between two of the images, or between their features."
    )
    pictures = _pictures(models, images, inverted)
    sections = page.section("Numbers", page.table(*table)), *page.figures(pictures)
    html = page.page(f"Inversion of {layer}", lead, *sections)
    write_study(output, "inversion", record, [lead, page.markdown_table(*table)], pictures, html)
    return record


def _rows(arrays: np.ndarray) -> np.ndarray:
    return arrays.reshape(len(arrays), -1)


def _in_batches(function: Callable) -> Callable[[np.ndarray], np.ndarray]:
    def run(arrays: np.ndarray) -> np.ndarray:
        parts = np.array_split(arrays, -(-len(arrays) // BATCH))
        return np.concatenate([np.asarray(function(part)) for part in parts])

    return run


def _descend_all(run: Run, features: np.ndarray, shape: Sequence[int], steps: int) -> np.ndarray:
    encoder, frozen, done, made = run.experiment.system.encode, run.experiment.system.encoder_frozen(), 0, []
    assert encoder is not None
    for batch in np.array_split(features, -(-len(features) // BATCH)):
        key = jax.random.fold_in(root_key(run.config.seed, "sample"), done)
        encode = lambda x: encoder(run.state.params, run.state.stats, frozen, x)[0]  # noqa: E731
        made.append(descend(encode, jnp.asarray(batch), shape, key, steps))
        done += len(batch)
        print(f"gradient descent: {done:,} of {len(features):,} images", flush=True)
    return np.concatenate(made)


def _check_same_features(workdirs: Sequence[str], runs: Sequence[Run]) -> None:
    keys = ("inverted.name", "inverted.tap", "inverted.weights", "data.name", "data.eval", "data.crop", "image_size")
    for workdir, run in zip(workdirs, runs, strict=True):
        if run.config.system != "inversion":
            raise UserError(f"{workdir} is a {run.config.system}, not an inversion.")
    check_same_keys(workdirs, [run.config for run in runs], keys, "invert different features")


def _pictures(models: Mapping[str, Model], images: np.ndarray, inverted: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    from vae_jax.latents.pictures import interpolations_between
    from vae_jax.reports import figures  # matplotlib: only where it is used

    count = figures.columns(1 + max(len(inverted), len(ITERATIONS)), images.shape[1:])
    shown = np.linspace(0, len(images) - 1, count).astype(int)
    originals = images[shown]
    rows = [("images", originals)] + [(name, made[shown]) for name, made in inverted.items()]
    pictures = {"Reconstructions": figures.image_rows(rows)}
    for name, model in models.items():
        again = zip(ITERATIONS, encode_again(model, originals), strict=True)
        rows = [("images", originals)] + [(str(count), left) for count, left in again]
        pictures[f"Encoded again, {name}"] = figures.image_rows(rows)
        pictures[f"Interpolation, {name}"] = interpolations_between(model, originals)
        rows = []
        for image in originals[:3]:
            six = positions_and_colours(image)
            rows += [("images", six), ("inverted", np.asarray(model.reconstruct(six)))]
        pictures[f"Position and colour, {name}"] = figures.image_rows(rows)
    return pictures


def _table(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = [[row["name"], f"{row['image_error']:.1f}", f"{row['feature_error']:.1f}"] for row in record["rows"]]
    return ["", "image error %", "feature error %"], rows


def main() -> None:
    """The command line."""
    invert(WORKDIRS.value, WORKDIR.value, DATA_DIR.value, IMAGES.value, STEPS.value)
    print_study(WORKDIR.value, "inversion")


if __name__ == "__main__":
    WORKDIRS = cli.paths_flag("workdirs", "Workdirs of inversions, separated by commas.", required=True)
    WORKDIR = cli.path_flag("workdir", "Folder to write the comparison to.", required=True)
    DATA_DIR = cli.path_flag("data_dir", "Folder of the data, if they have moved since training.")
    IMAGES = flags.DEFINE_integer("images", 100, "Number of images, evenly spread over the eval split.", lower_bound=1)
    STEPS = flags.DEFINE_integer("descent_steps", 500, "Steps of gradient descent; 0 to omit it.", lower_bound=0)
    cli.run(main)
