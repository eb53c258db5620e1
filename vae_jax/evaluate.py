"""The evaluation, the same in the training loop and offline: every metric of every example of the whole split.

    python -m vae_jax.evaluate --workdir=DIR [--metrics=psnr,ssim] [--data_dir=DIR]

writes DIR/eval/metrics.json, DIR/eval/per_image.npz and DIR/report.html.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.config import check_weights, read_config
from vae_jax.data import load_dataset
from vae_jax.data.contract import Dataset
from vae_jax.data.pipeline import Feed, padded_indices
from vae_jax.experiment import Experiment
from vae_jax.inference import Run, load_workdir
from vae_jax.metrics import METRICS, default_metrics, load_metrics, measure
from vae_jax.reports.grids import make_pictures, save_png
from vae_jax.reports.report import write_report
from vae_jax.runs.workdir import write_bytes, write_text
from vae_jax.runtime.interrupt import Stopped
from vae_jax.runtime.sharding import place, replicated
from vae_jax.state import State, digest, eval_params
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

    def reconstruct(params, stats, frozen, batches):
        batch = to_float(jax.tree.map(lambda leaf: leaf[0], batches))
        recon, values = system.evaluate(params, stats, frozen, batch)
        recons = {"": recon} if recon is not None else {}
        recons |= {f"{name}/": baseline(batch) for name, baseline in system.baselines.items()}
        return batch, recons, values | ({"label": batch["label"]} if "label" in batch else {})

    def judge(weights, batch, recon):
        return measure(metrics, weights, batch["image"], recon, batch.get("label"))

    reconstruct = jax.jit(reconstruct, out_shardings=(None, None, replicated(mesh)))
    judge = jax.jit(judge, out_shardings=replicated(mesh))  # separate, so that it is compiled once for all of them

    def step(state: State, frozen, index: np.ndarray) -> dict[str, jax.Array]:
        batch, recons, values = reconstruct(eval_params(state), state.stats, frozen, feed(index[None]))
        for prefix, recon in recons.items():
            measured = judge(weights, batch, recon)
            values = values | {prefix + name: value for name, value in measured.items()}
        return values

    def evaluate(state: State, frozen) -> PerImage:
        parts = []
        for index in indices:
            if stop():
                raise Stopped
            parts.append(step(state, frozen, index))
            if len(parts) > IN_FLIGHT:
                parts[-1 - IN_FLIGHT] = jax.device_get(parts[-1 - IN_FLIGHT])
        parts = jax.device_get(parts)
        order = ["", *system.baselines]  # jax sorts dictionaries by key
        names = sorted(parts[0], key=lambda name: order.index(name.rpartition("/")[0]))
        return {name: np.concatenate([part[name] for part in parts])[mask.ravel()] for name in names}

    return evaluate


def judged_by(config: ConfigDict) -> tuple[str, ...]:
    """The metrics of a run: the default ones, and those that its config adds."""
    return default_metrics(config.image_size) + config.metrics


def summarise(per_image: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means over all examples in float64, also of baselines, and means per class if there are labels."""
    labels, baselines = per_image.get("label"), baseline_metrics(per_image)
    metrics = {n: values.astype(np.float64) for n, values in per_image.items() if n != "label" and "/" not in n}
    summary: dict[str, Any] = {"examples": len(next(iter(metrics.values())))}
    summary |= {name: float(values.mean()) for name, values in metrics.items()}
    if baselines:
        summary["baselines"] = {
            name: {metric: float(values.mean(dtype=np.float64)) for metric, values in judged.items()}
            for name, judged in baselines.items()
        }
    if labels is not None:
        summary["per_class"] = {
            name: {str(c): float(values[labels == c].mean()) for c in np.unique(labels)}
            for name, values in metrics.items()
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
    workdir: Path,
    metrics: Sequence[str] | None = None,
    stop: Callable[[], bool] = never,
) -> Callable[[State, Any], tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """(state, frozen) -> metrics and pictures, also written to WORKDIR/eval and WORKDIR/pictures.

    Used at the end of training and by `python -m vae_jax.evaluate`. `stop` is as in `make_evaluate`.
    """
    metrics = metrics or judged_by(config)
    evaluate = make_evaluate(experiment.system, dataset, mesh, config.eval_batch_size, metrics, stop)
    draw = make_pictures(experiment, dataset, mesh, config.seed)

    def judge(state: State, frozen) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        per_image = evaluate(state, frozen)
        step, summary = int(state.step), summarise(per_image)
        result = {"step": step, "skipped_steps": int(state.skipped), "state_digest": digest(state.params)}
        result |= {"split": config.data.eval, **summary}
        pictures = draw(state, frozen)
        if jax.process_index() == 0:
            write_text(workdir / "eval" / "metrics.json", json.dumps(result, indent=2) + "\n")
            np.savez_compressed(arrays := io.BytesIO(), **dict[str, Any](per_image))  # any names
            write_bytes(workdir / "eval" / "per_image.npz", arrays.getvalue())
            for name, picture in pictures.items():
                save_png(workdir / "pictures" / f"{name}_{step:07d}.png", picture)
        return result, pictures

    return judge


def evaluate_run(run: Run, dataset: Dataset, metrics: Sequence[str] | None = None) -> PerImage:
    """Every metric of every example of `dataset` for a trained workdir."""
    frozen = jax.device_put(run.experiment.system.frozen(), replicated(run.mesh))
    metrics = metrics or judged_by(run.config)
    evaluate = make_evaluate(run.experiment.system, dataset, run.mesh, run.config.eval_batch_size, metrics)
    return evaluate(run.state, frozen)


def load_split(run: Run, split: str, data_dir: str | None) -> Dataset:
    """A split of the data that the run was trained on, read from `data_dir` if it has moved."""
    config = ConfigDict(run.config.to_dict())
    if data_dir is not None:
        config.data.dir = data_dir
    return load_dataset(config, split)


def load_eval_dataset(run: Run, data_dir: str | None) -> Dataset:
    """The split that the run is judged on."""
    return load_split(run, run.config.data.eval, data_dir)


def main() -> None:
    """The command line."""
    workdir = Path(WORKDIR.value)
    check_weights(read_config(workdir))
    run = load_workdir(workdir)
    dataset = load_eval_dataset(run, DATA_DIR.value)
    frozen = jax.device_put(run.experiment.system.frozen(), replicated(run.mesh))
    result, _ = make_judge(run.config, run.experiment, dataset, run.mesh, workdir, METRICS_FLAG.value)(
        run.state, frozen
    )
    baselines = result.get("baselines", {})
    for name, value in result.items():
        if isinstance(value, float):
            beside = [f"  {baseline} {judged[name]:.6g}" for baseline, judged in baselines.items() if name in judged]
            print(f"{name:30} {value:.6g}" + "".join(beside))
    print(f"wrote {workdir / 'eval' / 'metrics.json'} and {write_report(workdir)}")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
    METRICS_FLAG = flags.DEFINE_list(
        "metrics", None, f"Comma-separated, from {', '.join(METRICS)}; by default those of the training."
    )
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data is now, if it has moved since training.")
    cli.run(main)
