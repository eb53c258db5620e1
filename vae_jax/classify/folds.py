"""Folds: subsets of a labelled split, each of which trains a classifier of its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_jax.data.pipeline import batch_indices
from vae_jax.errors import UserError


@dataclass(frozen=True)
class Folds:
    """The examples to train SVMs on: `count` random folds of `size`, or the folds of a file."""

    count: int = 10
    size: int = 1000
    file: str | None = None


def make_folds(folds: Folds, train: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """Indices of the examples of each fold, from the labels `train` [N].

    UserError unless train, test [M] and all folds have the same classes, with two or more examples of each per fold.
    """
    classes = np.unique(train)
    for here, there, labels in (("train", "test", test), ("test", "train", train)):
        for c in np.setdiff1d(np.union1d(train, test), labels):
            raise UserError(f"Class {c} of the {here} split is missing from the {there} split. Choose splits with the "
                            "same classes (--train_split, --test_split).")  # fmt: skip
    if len(classes) < 2:
        raise UserError(f"All images belong to class {classes[0]}; expected two or more classes.")
    drawn = read_folds(folds.file, len(train)) if folds.file else random_folds(train, folds.count, folds.size)
    counts = np.array([[np.count_nonzero(train[fold] == c) for c in classes] for fold in drawn])
    for fold, c in np.argwhere(counts < 2):
        raise UserError(
            f"Fold {fold + 1} has too few examples of class {classes[c]}: {counts[fold, c]}; expected two or more of "
            "each class, one to train on and one to choose C. Use larger folds (--fold_size, --fold_file)."
        )
    if folds.file and len(set(np.unique(train, return_counts=True)[1])) == 1 and np.ptp(counts, axis=1).max() > 1:
        print(
            f"warning: the classes of the train split are balanced, but those of the folds in {folds.file} have "
            f"{counts.min():,} to {counts.max():,} examples: was the file made for these data, in this order?",
            flush=True,
        )
    return drawn


def read_folds(path: str | Path, examples: int) -> list[np.ndarray]:
    """Reads folds as in STL-10's fold_indices.txt: one line per fold, indices 0 .. examples - 1 separated by blanks.

    They index the examples in the order of the data set in use: an image_folder is sorted by path, and
    tensorflow-datasets stores examples shuffled, so published indices may need to be converted.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path} (--fold_file). Expected one line of indices per fold.")
    folds = []
    for number, line in enumerate(Path(path).read_text(errors="replace").splitlines(), 1):
        for word in line.split():
            if not (word.isascii() and word.isdigit() and int(word) < examples):
                raise UserError(
                    f"{path}, line {number}: {word!r} is not an index from 0 to {examples - 1} into the {examples:,} "
                    "examples of the train split. Was the file made for these data, and does it count from 0?"
                )
        if line.strip():
            folds.append(np.array(line.split(), np.int64))
    if not folds:
        raise UserError(f"{path} (--fold_file) is empty; expected one line of indices per fold.")
    return folds


def random_folds(labels: np.ndarray, count: int, size: int) -> list[np.ndarray]:
    """`count` random folds of `size` examples of the labels [N], the same on every machine.

    A fold is drawn without replacement and balanced: the sizes of its classes differ by at most one.
    """
    if min(count, size) < 1:
        raise UserError(f"--folds is {count} and --fold_size is {size}; both must be at least 1.")
    if size > len(labels):
        raise UserError(f"A fold of {size:,} examples (--fold_size) is larger than the train split, {len(labels):,}.")
    classes = np.unique(labels)
    quotas = size // len(classes) + (np.arange(len(classes)) < size % len(classes))
    folds = []
    for number in range(count):
        order = batch_indices(number, 0, len(labels), len(labels))
        drawn = [order[labels[order] == c][:quota] for c, quota in zip(classes, quotas, strict=True)]
        for c, quota, members in zip(classes, quotas, drawn, strict=True):
            if len(members) < quota:
                raise UserError(
                    f"A balanced fold of {size:,} examples needs {quota:,} of class {c}, but the train split has only "
                    f"{len(members):,}. Use a smaller --fold_size, or list the folds in a --fold_file."
                )
        folds.append(np.sort(np.concatenate(drawn)))
    return folds
