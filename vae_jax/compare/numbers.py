"""The numbers of a comparison: the runs of each row, and means over images and seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.compare.tables import COLUMNS, ORIGINALS, RATIO, SHARPNESS
from vae_jax.config import differences, row_name
from vae_jax.evaluate import PerImage, baseline_metrics
from vae_jax.inference import Model, Run
from vae_jax.runs.workdir import read_lines

ODD_CLASS = 1  # the article reports ones separately: they have few edges
PER_SUBSET = ("laplacian_variance", "target_laplacian_variance")  # these have one column per subset


class Judged(NamedTuple):
    """A trained workdir and its evaluation."""

    workdir: str
    run: Run
    model: Model
    per_image: PerImage
    distances: dict[str, float]  # over the whole set, of baselines too, named as in per_image
    images_per_second: float | None  # of training, if known


class Entry(NamedTuple):
    """One row of the table: runs that differ only in their seed."""

    name: str
    judged: list[Judged]


def rows_of(judged: Sequence[Judged]) -> list[Entry]:
    """One entry for each group of runs that differ only in their seed."""
    entries: list[Entry] = []
    for one in judged:
        same = next((entry for entry in entries if _shares_row(entry, one.run)), None)
        if same:
            same.judged.append(one)
        else:
            taken = {ORIGINALS, *(entry.name for entry in entries)}
            entries.append(Entry(row_name(one.run.config, one.workdir, taken), [one]))
    return entries


def _shares_row(entry: Entry, run: Run) -> bool:
    first = entry.judged[0].run
    same = all(line.startswith("  seed:") for line in differences(first.config, run.config))
    same_length = (first.config.steps, int(first.state.step)) == (run.config.steps, int(run.state.step))
    return same and same_length and all(other.run.config.seed != run.config.seed for other in entry.judged)


def subsets_of(labels: np.ndarray | None, size: int) -> dict[str, np.ndarray]:
    """The subsets to report separately, masks [N] by title, given the labels [N] if there are any."""
    if labels is None or ODD_CLASS not in labels or len(np.unique(labels)) < 2:
        return {"all": np.ones(size, bool)}
    return {f"class != {ODD_CLASS}": labels != ODD_CLASS, f"class == {ODD_CLASS}": labels == ODD_CLASS}


def sharpness_of(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The Laplacian variances [N] of the originals and of the first run of each entry, by name."""
    variances = {ORIGINALS: entries[0].judged[0].per_image["target_laplacian_variance"]}
    return variances | {entry.name: entry.judged[0].per_image["laplacian_variance"] for entry in entries}


def training_speed(workdir: str | Path) -> float | None:
    """The median of the logged images per second of a training; None if there is no log."""
    logged = [r["images_per_second"] for r in read_lines(Path(workdir) / "scalars.jsonl") if "images_per_second" in r]
    return statistics.median(logged) if logged else None


def numbers_of(
    entries: Sequence[Entry], subsets: Mapping[str, np.ndarray], metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """For each row: means over the images, then mean and standard deviation over the runs.

    `metrics` get columns in addition to those of COLUMNS.
    """
    first = entries[0].judged[0].per_image
    target = first["target_laplacian_variance"]
    known = dict.fromkeys((*COLUMNS, *(name for name in metrics if name not in PER_SUBSET)))
    names = [name for name in known if any(name in entry.judged[0].per_image for entry in entries)]

    def values_of(runs: Sequence[PerImage]) -> dict[str, list[float]]:
        values = {name: [float(p[name].mean(dtype=np.float64)) for p in runs] for name in names if name in runs[0]}
        sharpness = [p["laplacian_variance"].mean(dtype=np.float64) for p in runs]
        values[RATIO] = [float(value / target.mean(dtype=np.float64)) for value in sharpness]
        for title, mask in subsets.items():
            values[f"{SHARPNESS}, {title}"] = [
                float(p["laplacian_variance"][mask].mean(dtype=np.float64)) for p in runs
            ]
        return values

    rows = []
    for entry in entries:
        values = values_of([one.per_image for one in entry.judged])
        for name in entry.judged[0].distances:
            if "/" not in name:
                values[name] = [one.distances[name] for one in entry.judged]
        rows.append({
            "name": entry.name,
            "workdirs": [one.workdir for one in entry.judged],
            "seeds": [one.run.config.seed for one in entry.judged],
            "step": int(entry.judged[0].run.state.step),
            "mean": {name: float(np.mean(v)) for name, v in values.items()},
            "std": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
            "runs": values,
            "images_per_second": [one.images_per_second for one in entry.judged],
        })  # fmt: skip
    originals = {
        name: float(first[f"target_{name}"].mean(dtype=np.float64)) for name in names if f"target_{name}" in first
    }
    originals |= {RATIO: 1.0} | {
        f"{SHARPNESS}, {title}": float(target[m].mean(dtype=np.float64)) for title, m in subsets.items()
    }
    numbers = {ORIGINALS: originals, "rows": rows}
    baselines: dict[str, dict[str, float]] = {}
    for entry in entries:
        distances = baseline_metrics(entry.judged[0].distances)
        for name, p in baseline_metrics(entry.judged[0].per_image).items():
            baselines[name] = {metric: value for metric, (value,) in values_of([p]).items()} | distances.get(name, {})
    if baselines:
        numbers["baselines"] = [
            {"name": name, "seeds": [], "mean": mean, "std": dict.fromkeys(mean)} for name, mean in baselines.items()
        ]
    return numbers
