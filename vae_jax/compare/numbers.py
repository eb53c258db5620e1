"""The numbers of a comparison: the runs of each row, and means over images and seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.compare.tables import COLUMNS, ORIGINALS, RATIO, SHARPNESS, TESTED, column
from vae_jax.config import differences, row_name
from vae_jax.evaluate import PerImage, baseline_metrics
from vae_jax.inference import Model, Run
from vae_jax.metrics import mean_over_images
from vae_jax.metrics.statistics import PairedTest, paired_t_tests
from vae_jax.runs.workdir import read_lines
from vae_jax.systems.likelihoods import IMPORTANCE_WEIGHTED

DIGITS = ("mnist", "mnist_5k")  # and any data whose classes are called 0 to 9
ODD_CLASS = 1  # of digits: the article reports ones separately, which have few edges
PER_SUBSET = ("laplacian_variance", "target_laplacian_variance")  # these have one column per subset


class Judged(NamedTuple):
    """A trained workdir and its evaluation."""

    workdir: str
    run: Run
    model: Model
    per_image: PerImage
    distances: dict[str, float]  # over the whole set, of baselines too, named as in per_image
    cost: dict[str, Any] | None  # of training, if measured
    images_per_second: float | None  # of training, if known


class Entry(NamedTuple):
    """One row of the table: runs that differ only in their seed."""

    name: str
    judged: list[Judged]


def rows_of(judged: Sequence[Judged]) -> list[Entry]:
    """One entry for each group of runs that differ only in their seed."""
    groups: list[list[Judged]] = []
    for one in judged:
        same = next((group for group in groups if _shares_row(group, one.run)), None)
        if same:
            same.append(one)
        else:
            groups.append([one])
    own = [group[0].run.config.name for group in groups]
    shared = {name for name in own if own.count(name) > 1}  # these rows go by their workdirs
    entries: list[Entry] = []
    for group in groups:
        config, workdir = group[0].run.config, group[0].workdir
        taken = {ORIGINALS, *(shared - {Path(workdir).name}), *(entry.name for entry in entries)}
        entries.append(Entry(row_name(config, workdir, taken), group))
    return entries


def _shares_row(group: Sequence[Judged], run: Run) -> bool:
    first = group[0].run
    same = all(line.startswith("  seed:") for line in differences(first.config, run.config))
    same_length = (first.config.steps, int(first.state.step)) == (run.config.steps, int(run.state.step))
    return same and same_length and all(other.run.config.seed != run.config.seed for other in group)


def are_digits(data_name: str, classes: Sequence[str]) -> bool:
    """Whether the labels of a data set are the digits that they say."""
    return data_name in DIGITS or tuple(classes) == tuple("0123456789")


def subsets_of(labels: np.ndarray | None, size: int, digits: bool) -> dict[str, np.ndarray]:
    """The subsets to report separately, masks [N] by title, given the labels [N] if there are any: of digits, all but
    the ones, and the ones; of other images, all."""
    if labels is None or not digits or ODD_CLASS not in labels or len(np.unique(labels)) < 2:
        return {"all": np.ones(size, bool)}
    return {f"class != {ODD_CLASS}": labels != ODD_CLASS, f"class == {ODD_CLASS}": labels == ODD_CLASS}


def sharpness_of(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The Laplacian variances [N] of the originals and of the first run of each entry, by name."""
    variances = {ORIGINALS: entries[0].judged[0].per_image["target_laplacian_variance"]}
    return variances | {entry.name: entry.judged[0].per_image["laplacian_variance"] for entry in entries}


def tests_of(entries: Sequence[Entry], subsets: Mapping[str, np.ndarray]) -> dict[str, list[PairedTest]]:
    """The paired tests by title: of the Laplacian variance in each subset, originals included, and of the metrics in
    TESTED that all runs have. An image's value is the mean over the runs of an entry."""

    def over_runs(metric: str) -> dict[str, np.ndarray]:
        return {entry.name: np.mean([one.per_image[metric] for one in entry.judged], axis=0) for entry in entries}

    target = entries[0].judged[0].per_image["target_laplacian_variance"]
    variances = {ORIGINALS: target} | over_runs("laplacian_variance")
    tests = {
        f"{SHARPNESS}, {title}": paired_t_tests({name: values[mask] for name, values in variances.items()})
        for title, mask in subsets.items()
    }
    shared = [name for name in TESTED if all(name in one.per_image for entry in entries for one in entry.judged)]
    more = {column(name)[0]: paired_t_tests(over_runs(name)) for name in shared}
    return tests | {title: pairs for title, pairs in more.items() if pairs}


def training_speed(workdir: str | Path) -> float | None:
    """The median of the logged images per second of a training; None if there is no log."""
    logged = [record.get("images_per_second") for record in read_lines(Path(workdir) / "scalars.jsonl")]
    known = [rate for rate in logged if rate is not None]
    return statistics.median(known) if known else None


def numbers_of(
    entries: Sequence[Entry], subsets: Mapping[str, np.ndarray], metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """For each row: means over the images, then mean and standard deviation over the runs.

    `metrics` get columns in addition to those of COLUMNS.
    """
    first = entries[0].judged[0].per_image
    target = first["target_laplacian_variance"]
    bounds = (name for e in entries for name in e.judged[0].per_image if name.startswith(IMPORTANCE_WEIGHTED))
    known = dict.fromkeys((*COLUMNS, *bounds, *(name for name in metrics if name not in PER_SUBSET)))
    names = [name for name in known if any(name in entry.judged[0].per_image for entry in entries)]

    def values_of(runs: Sequence[PerImage]) -> dict[str, list[float]]:
        shared = [name for name in names if all(name in p for p in runs)]
        values = {name: [mean_over_images(p, name) for p in runs] for name in shared}
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
        } | ({"cost": cost} if (cost := entry.judged[0].cost) else {}))  # fmt: skip
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
