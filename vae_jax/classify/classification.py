"""Linear SVMs on the codes of trained runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax.classify.folds import Folds, make_folds
from vae_jax.config import row_name
from vae_jax.data import load_dataset
from vae_jax.data.contract import Dataset
from vae_jax.data.pipeline import padded_indices
from vae_jax.errors import UserError
from vae_jax.inference import Model, Run, load_workdir
from vae_jax.latents.vectors import encode_dataset
from vae_jax.reports import page
from vae_jax.reports.study import write_study

CS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # from 1 on the solver is very slow for codes as wide as there are examples
MAX_ITERATIONS = 10_000  # of the solver, which needs a few hundred
HELD_OUT = 5  # one in five examples of each class of the first fold is held out to choose C
READ = 250  # images per read, for data whose labels come only with the images


class LabelledData(NamedTuple):
    """The labelled images; None stands for the data that each run was trained on."""

    name: str | None = None
    dir: str | None = None
    train: str = "train"
    test: str = "test"


def svm_accuracy(c: float, z_train: np.ndarray, train: np.ndarray, z_test: np.ndarray, test: np.ndarray) -> float:
    """Accuracy of a linear one-vs-rest SVM on the codes z_test [M, d] with labels `test` [M].

    It is trained on z_train [N, d] with labels `train` [N]. Both are standardised with the mean and standard deviation
    of z_train.
    """
    from sklearn.svm import LinearSVC  # slow to import

    mean, std = z_train.mean(axis=0), z_train.std(axis=0)
    std = np.where(np.ptp(z_train, axis=0) > 0, std, 1)
    svm = LinearSVC(C=c, dual="auto", max_iter=MAX_ITERATIONS, random_state=0).fit((z_train - mean) / std, train)
    return float(svm.score((z_test - mean) / std, test))


def choose_c(z: np.ndarray, labels: np.ndarray) -> dict[float, float]:
    """{C: accuracy} on held-out examples of one fold, best first; of equally good ones the smallest first.

    Of the codes z [N, d] with labels [N], the last fifth of each class is held out, at least one example.
    """
    held_out = np.zeros(len(labels), bool)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        held_out[members[-max(1, len(members) // HELD_OUT) :]] = True
    kept = ~held_out
    tried = {c: svm_accuracy(c, z[kept], labels[kept], z[held_out], labels[held_out]) for c in CS}
    return dict(sorted(tried.items(), key=lambda item: (-item[1], item[0])))


def judge_codes(
    z_train: np.ndarray, train: np.ndarray, z_test: np.ndarray, test: np.ndarray, folds: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Accuracies on all of z_test [M, d] of SVMs trained on each fold of z_train [N, d], with labels [M] and [N].

    Returns mean and std over the folds, in [0, 1] (std is None for one fold); accuracies, one per fold; C, chosen on
    the first fold; tried, the accuracy of each C there.
    """
    tried = choose_c(z_train[folds[0]], train[folds[0]])
    best = next(iter(tried))
    accuracies = [svm_accuracy(best, z_train[fold], train[fold], z_test, test) for fold in folds]
    return {
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "accuracies": accuracies,
        "C": best,
        "tried": {f"{c:g}": accuracy for c, accuracy in tried.items()},
    }


def classify(workdirs: Sequence[str], output: str | Path, source: LabelledData, folds: Folds) -> dict[str, Any]:
    """Evaluates the codes of all workdirs on the same folds of the same images, and writes the results into `output`;
    returns classify.json."""
    runs = [load_workdir(workdir) for workdir in workdirs]
    models = [Model(run) for run in runs]
    names = sorted({source.name or run.config.data.name for run in runs})
    if len(names) > 1:
        raise UserError(f"The runs were trained on {' and '.join(names)}. Choose one data set with --data_name.")
    rows, drawn, labels = [], [], []
    for number, (workdir, run, model) in enumerate(zip(workdirs, runs, models, strict=True), 1):
        datasets = [_load(run, source, split) for split in (source.train, source.test)]
        own = [_labels(d, f"{names[0]}, split {s}") for d, s in zip(datasets, (source.train, source.test), strict=True)]
        if not labels:
            labels = own
            drawn = make_folds(folds, *labels)
        elif not all(map(np.array_equal, own, labels)):
            raise UserError(
                f"{workdirs[0]} and {workdir} read different images of {names[0]}: their labels differ. Choose one "
                "folder for all with --data_dir."
            )
        print(f"encoding the images with {workdir} ({number} of {len(runs)})", flush=True)
        z_train, z_test = (encode_dataset(model, dataset).reshape(dataset.size, -1) for dataset in datasets)
        name = row_name(run.config, workdir, [row["name"] for row in rows])
        row = {"name": name, "workdir": str(workdir), "step": int(run.state.step)}
        result = judge_codes(z_train, labels[0], z_test, labels[1], drawn)
        rows.append(row | {"code_size": z_train.shape[1]} | result)
    counts = np.unique(labels[1], return_counts=True)[1]
    record = {
        "data": names[0],
        "folder": source.dir or "",
        "train": {"split": source.train, "images": len(labels[0])},
        "test": {"split": source.test, "images": len(labels[1])},
        "classes": len(counts),
        "chance": float(counts.max() / counts.sum()),
        "folds": {"file": folds.file, "sizes": [len(fold) for fold in drawn]},
        "rows": rows,
    }
    write_study(output, "classify", record, [_lead(record), page.markdown_table(*_table(record))])
    return record


def _load(run: Run, source: LabelledData, split: str) -> Dataset:
    """A split at the size and in the colours of the run's images. Data of `source.name` are cropped to squares."""
    config = ConfigDict(run.config.to_dict())
    if source.name is not None:
        config.data.update(name=source.name, dir="", crop="square", random_crop=0)
    if source.dir is not None:
        config.data.dir = source.dir
    config.data.update(train=source.train, eval=source.test, per_class=0)
    return load_dataset(config, split)


def _labels(dataset: Dataset, what: str) -> np.ndarray:
    """The labels [N] of a data set; `what` names it and its split in errors."""
    if "label" not in dataset.read(np.arange(1)):
        raise UserError(f"{what}, has no labels. In an image_folder, each folder directly below a split is a label. To "
                        "use other data, set --data_name and --data_dir.")  # fmt: skip
    if dataset.arrays is not None:
        return np.asarray(dataset.arrays["label"])
    indices, mask = padded_indices(dataset.size, READ)
    return np.concatenate([dataset.read(index)["label"] for index in indices])[mask.ravel()]


def _lead(record: dict[str, Any]) -> str:
    low, high = min(record["folds"]["sizes"]), max(record["folds"]["sizes"])
    sizes = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    train, test = record["train"], record["test"]
    return (
        f"Accuracy of linear SVMs on the {record['classes']} classes of {record['data']}, from the codes of all "
        f"{test['images']:,} images of {test['split']}: mean ± standard deviation over {len(record['folds']['sizes'])} "
        f"folds of {sizes} of the {train['images']:,} images of {train['split']}. Chance is the share of the most "
        "frequent class. C is chosen on held-out examples of the first fold."
    )


def _table(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row per workdir, and one for chance."""
    rows = []
    for row in record["rows"]:
        spread = "" if row["std"] is None else f" ± {100 * row['std']:.2f}"
        rows.append([row["name"], f"{100 * row['mean']:.2f}{spread}", f"{row['code_size']:,}", f"{row['C']:g}"])
    return ["", "accuracy %", "size of the code", "C"], [*rows, ["chance", f"{100 * record['chance']:.2f}", "", ""]]
