"""The evaluation, the same in the training loop and offline: every metric of every example of the whole split.

    python -m vae_jax.evaluate --workdir=DIR [--metrics=lpips_vgg,...] [--data_dir=FOLDER]

writes DIR/eval/metrics.json, DIR/eval/per_image.npz and DIR/report.html. --metrics adds metrics. Data in FOLDER that
are not those of the run, by their sums, are judged apart: in DIR/eval/FOLDER-SUM, with a report of their own.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.config import check_weights, number_of_classes, read_config
from vae_jax.data import load_dataset
from vae_jax.data.contract import Dataset, class_name, fingerprint
from vae_jax.data.pipeline import Feed, padded_indices
from vae_jax.errors import UserError
from vae_jax.experiment import Experiment
from vae_jax.inference import Run, load_workdir
from vae_jax.metrics import METRICS, check_metrics, default_metrics, load_metrics, mean_over_images, measure
from vae_jax.reports.grids import make_pictures, save_png
from vae_jax.reports.report import write_report
from vae_jax.runs.bucket import at_hand
from vae_jax.runs.places import Place, agree, other_place, own_place
from vae_jax.runs.workdir import write_bytes, write_text
from vae_jax.runtime.interrupt import Stopped
from vae_jax.runtime.sharding import gather, on_host, place, replicated
from vae_jax.state import State, averaged, digest
from vae_jax.strict_json import to_json
from vae_jax.systems import System
from vae_jax.train_step import to_float

IN_FLIGHT = 2  # batches that may run ahead of the last one known to be finished

Value = TypeVar("Value")
PerImage = dict[str, np.ndarray]  # metric or baseline/metric -> [N] float32, 'label' -> [N] int32 if there are any


def never() -> bool:
    """The default `stop`."""
    return False


def make_evaluate(
    system: System,
    dataset: Dataset,
    mesh: Mesh,
    batch_size: int,
    metrics: Sequence[str],
    stop: Callable[[], bool] = never,
) -> Callable[[State, Any], PerImage]:
    """(state, frozen) -> each of `metrics` for every example of `dataset`, in its order, and for the baselines.

    The last batch is padded and the padding dropped again, so that any number of examples is judged exactly. `stop` is
    called before each batch; if it returns True, Stopped is raised.
    """
    weights = place(load_metrics(metrics, dataset), replicated(mesh))
    batch_size = -(-batch_size // mesh.size) * mesh.size
    indices, mask = padded_indices(dataset.size, batch_size)
    feed = Feed(dataset, mesh)

    reconstruct = make_reconstruct(system, mesh)
    judge = make_judgement(tuple(metrics), mesh)

    def step(model: tuple[Any, Any], frozen, batches, index: np.ndarray) -> dict[str, jax.Array]:
        batch, recons, values = reconstruct(*model, frozen, batches, index)
        for prefix, recon in recons.items():
            measured = judge(weights, batch, recon)
            values = values | {prefix + name: value for name, value in measured.items()}
        return values

    def evaluate(state: State, frozen) -> PerImage:
        parts, model = [], gather(averaged(state), mesh)
        for index, batches in zip(indices, feed(lambda i: indices[i][None], len(indices)), strict=True):
            if stop():
                raise Stopped
            parts.append(step(model, frozen, batches, index))
            if len(parts) > IN_FLIGHT:
                parts[-1 - IN_FLIGHT] = jax.device_get(parts[-1 - IN_FLIGHT])
        parts = jax.device_get(parts)
        order = ["", *system.baselines]  # jax sorts dictionaries by key
        names = sorted(parts[0], key=lambda name: order.index(name.rpartition("/")[0]))
        return {name: np.concatenate([part[name] for part in parts])[mask.ravel()] for name in names}

    return evaluate


def make_reconstruct(system: System, mesh: Mesh) -> jax.stages.Wrapped:
    """(params, stats, frozen, batches [1, B, ...], index [B]) -> the batch in float32, {prefix: reconstructions}, the
    system's own values."""

    def reconstruct(params, stats, frozen, batches, index):
        batch = to_float(jax.tree.map(lambda leaf: leaf[0], batches) | {"index": index})
        recon, values = system.evaluate(params, stats, frozen, batch)
        recons = {"": recon} if recon is not None else {}
        recons |= {f"{name}/": baseline(batch) for name, baseline in system.baselines.items()}
        return batch, recons, values | ({"label": batch["label"]} if "label" in batch else {})

    return jax.jit(reconstruct, out_shardings=(None, None, replicated(mesh)))


@functools.cache
def make_judgement(metrics: tuple[str, ...], mesh: Mesh) -> Callable:
    """(weights, batch, recon) -> values; compiled once for a run, its baselines and all runs that are compared."""

    def judge(weights, batch, recon):
        return measure(metrics, weights, batch["image"], recon, batch.get("label"))

    return jax.jit(judge, out_shardings=replicated(mesh))


def judged_by(config: ConfigDict) -> tuple[str, ...]:
    """The metrics of a run: the default ones, and those that its config adds."""
    return default_metrics(config.image_size) + config.metrics


def summarise(per_image: Mapping[str, np.ndarray], classes: Sequence[str] = ()) -> dict[str, Any]:
    """Metrics of all examples, `mean_over_images`, also of baselines, and per class if there are labels; `classes` are
    their names, if they have any."""
    labels, baselines = per_image.get("label"), baseline_metrics(per_image)
    names = [name for name in per_image if name != "label" and "/" not in name]
    summary: dict[str, Any] = {"examples": len(per_image[names[0]])}
    summary |= {name: mean_over_images(per_image, name) for name in names}
    if baselines:
        summary["baselines"] = {
            name: {metric: mean_over_images(judged, metric) for metric in judged} for name, judged in baselines.items()
        }
    if labels is not None:
        summary["per_class"] = {
            name: {class_name(c, classes): mean_over_images(per_image, name, labels == c) for c in np.unique(labels)}
            for name in names
        }
    return summary


def baseline_metrics(per_image: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Metrics grouped by baseline."""
    baselines: dict[str, dict[str, Value]] = {}
    for name, values in per_image.items():
        baseline, slash, metric = name.partition("/")
        if slash:
            baselines.setdefault(baseline, {})[metric] = values
    return baselines


def make_judge(
    config: ConfigDict,
    experiment: Experiment,
    dataset: Dataset,
    mesh: Mesh,
    place: Place,
    metrics: Sequence[str] = (),
    stop: Callable[[], bool] = never,
) -> Callable[[State, Any], tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """(state, frozen) -> metrics and pictures, also written to `place`.

    Used at the end of training and by `python -m vae_jax.evaluate`. `metrics` are judged in addition to those of the
    run, `stop` is as in `make_evaluate`.
    """
    metrics = tuple(dict.fromkeys((*judged_by(config), *metrics)))
    evaluate = make_evaluate(experiment.system, dataset, mesh, config.eval_batch_size, metrics, stop)
    draw = make_pictures(experiment, dataset, mesh, config.seed)

    def judge(state: State, frozen) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        per_image = evaluate(state, frozen)
        step, summary = int(state.step), summarise(per_image, dataset.classes)
        result = {"step": step, "skipped_steps": int(state.skipped), "state_digest": digest(on_host(state.params))}
        result |= {"data": config.data.name, "folder": config.data.dir, "split": config.data.eval, **summary}
        result |= {"classes": list(dataset.classes)} if dataset.classes else {}
        result |= {"elbo_samples": config.elbo_samples} if "elbo" in summary else {}
        pictures = draw(state, frozen)
        if jax.process_index() == 0:
            write_text(place.numbers / "metrics.json", to_json(result, indent=2) + "\n")
            np.savez_compressed(arrays := io.BytesIO(), **dict[str, Any](per_image))  # any names
            write_bytes(place.numbers / "per_image.npz", arrays.getvalue())
            for name, picture in pictures.items():
                save_png(place.pictures / f"{name}_{step:07d}.png", picture)
        return result, pictures

    return judge


def evaluate_run(run: Run, dataset: Dataset, metrics: Sequence[str] | None = None) -> PerImage:
    """Every metric of every example of `dataset` for a trained workdir."""
    frozen = jax.device_put(run.experiment.system.frozen(), replicated(run.mesh))
    metrics = metrics or judged_by(run.config)
    evaluate = make_evaluate(run.experiment.system, dataset, run.mesh, run.config.eval_batch_size, metrics)
    return evaluate(run.state, frozen)


def moved(config: ConfigDict, data_dir: str | None) -> ConfigDict:
    """The config with its data in the folder `data_dir`, if that is not None."""
    config = ConfigDict(config.to_dict())
    if data_dir is not None:
        config.data.dir = data_dir
    return config


def load_split(run: Run, split: str, data_dir: str | None) -> Dataset:
    """A split of the data that the run was trained on, or of those in `data_dir`, with labels as in the training."""
    config = moved(run.config, data_dir)
    dataset = load_dataset(config, split, classes=run.inputs.get("classes", ()))
    if number_of_classes(config) and "label" not in dataset.read(np.arange(1)):
        raise UserError(
            f"The images of {config.data.dir or config.data.name}, split {split}, have no labels, by which a "
            f"{config.system} is judged. In an image_folder, each folder directly below a split is a label."
        )
    return dataset


def load_eval_dataset(run: Run, data_dir: str | None) -> Dataset:
    """The split that the run is judged on."""
    return load_split(run, run.config.data.eval, data_dir)


def has_own_data(run: Run, dataset: Dataset, data_dir: str | None) -> bool:
    """Whether `dataset`, the eval split in `data_dir`, is that of the run's training, which may have moved."""
    recorded = run.inputs.get("eval")  # earlier versions recorded nothing
    return data_dir is None if recorded is None else agree(recorded, fingerprint(dataset))


def evaluate_workdir(workdir: Path, data_dir: str | None, metrics: Sequence[str]) -> tuple[Place, dict[str, Any]]:
    """Judges a trained run on its data or on those in `data_dir`; returns where it wrote, and metrics.json."""
    run = load_workdir(workdir)
    dataset = load_eval_dataset(run, data_dir)
    place = own_place(workdir)
    if not has_own_data(run, dataset, data_dir):
        place = other_place(workdir, data_dir or run.config.data.dir or run.config.data.name, fingerprint(dataset))
        print(f"these are not the data that the run was judged on: their judgement goes to {place.numbers}", flush=True)
    frozen = jax.device_put(run.experiment.system.frozen(), replicated(run.mesh))
    judge = make_judge(moved(run.config, data_dir), run.experiment, dataset, run.mesh, place, metrics)
    return place, judge(run.state, frozen)[0]


def main() -> None:
    """The command line."""
    check_metrics(METRICS_FLAG.value)
    with at_hand(WORKDIR.value) as run:
        _evaluate(run.folder)


def _evaluate(workdir: Path) -> None:
    check_weights(read_config(workdir))
    place, result = evaluate_workdir(workdir, DATA_DIR.value, METRICS_FLAG.value)
    baselines = result.get("baselines", {})
    for name, value in result.items():
        if isinstance(value, float):
            beside = [f"  {baseline} {judged[name]:.6g}" for baseline, judged in baselines.items() if name in judged]
            print(f"{name:30} {value:.6g}" + "".join(beside))
    print(f"wrote {place.numbers / 'metrics.json'} and {write_report(workdir, place)}")


if __name__ == "__main__":
    WORKDIR = cli.workdir_flag("Folder or address of a trained run.")
    METRICS_FLAG = flags.DEFINE_list(
        "metrics", [], f"More metrics than those of the training, separated by commas: {', '.join(METRICS)}."
    )
    DATA_DIR = cli.path_flag("data_dir", "Folder of the data if they have moved, or of others.")
    cli.run(main)
