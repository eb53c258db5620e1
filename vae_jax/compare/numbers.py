"""The numbers of a comparison: which runs share a row, and the means over images and seeds."""

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

ODD_CLASS = 1  # the article sets ones apart: they have few edges
SHOWN_ANYWAY = ("laplacian_variance", "target_laplacian_variance")  # in columns that are named after their subset


class Judged(NamedTuple):
    """A trained workdir and what was found of it."""

    workdir: str
    run: Run
    model: Model
    per_image: PerImage
    distances: dict[str, float]  # of the whole set; names of baselines as in per_image
    images_per_second: float | None  # of training, where it is known


class Entry(NamedTuple):
    """One row of the table: runs that differ in nothing but their seed."""

    name: str
    judged: list[Judged]


def rows_of(judged: Sequence[Judged]) -> list[Entry]:
    """Each run with those that differ from it in nothing but the seed, else in an entry of its own."""
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
    as_long = (first.config.steps, int(first.state.step)) == (run.config.steps, int(run.state.step))
    return same and as_long and all(other.run.config.seed != run.config.seed for other in entry.judged)


def subsets_of(labels: np.ndarray | None, size: int) -> dict[str, np.ndarray]:
    """The images that are looked at apart, as masks [N] by title, of their labels [N], where there are any."""
    if labels is None or ODD_CLASS not in labels or len(np.unique(labels)) < 2:
        return {"all": np.ones(size, bool)}
    return {f"class != {ODD_CLASS}": labels != ODD_CLASS, f"class == {ODD_CLASS}": labels == ODD_CLASS}


def sharpness_of(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The Laplacian variances [N] of the originals and of the first run of each entry, by name."""
    variances = {ORIGINALS: entries[0].judged[0].per_image["target_laplacian_variance"]}
    return variances | {entry.name: entry.judged[0].per_image["laplacian_variance"] for entry in entries}


def training_speed(workdir: str | Path) -> float | None:
    """The median of the images per second that a training has logged; None where there is no log."""
    logged = [r["images_per_second"] for r in read_lines(Path(workdir) / "scalars.jsonl") if "images_per_second" in r]
    return statistics.median(logged) if logged else None


def numbers_of(
    entries: Sequence[Entry], subsets: Mapping[str, np.ndarray], metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """Per row: means over the images, then mean and standard deviation over the runs; `metrics` are asked for beside
    those that have a column of their own."""
    first = entries[0].judged[0].per_image
    target = first["target_laplacian_variance"]
    known = dict.fromkeys((*COLUMNS, *(name for name in metrics if name not in SHOWN_ANYWAY)))
    judged = [name for name in known if any(name in entry.judged[0].per_image for entry in entries)]

    def values_of(judgements: Sequence[PerImage]) -> dict[str, list[float]]:
        values = {n: [float(p[n].mean(dtype=np.float64)) for p in judgements] for n in judged if n in judgements[0]}
        sharpness = [p["laplacian_variance"].mean(dtype=np.float64) for p in judgements]
        values[RATIO] = [float(value / target.mean(dtype=np.float64)) for value in sharpness]
        for title, mask in subsets.items():
            values[f"{SHARPNESS}, {title}"] = [
                float(p["laplacian_variance"][mask].mean(dtype=np.float64)) for p in judgements
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
        name: float(first[f"target_{name}"].mean(dtype=np.float64)) for name in judged if f"target_{name}" in first
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
