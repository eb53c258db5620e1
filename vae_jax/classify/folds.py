"""Folds: parts of a labelled split that a classifier learns from one after the other."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.data.pipeline import batch_indices
from vae_jax.errors import UserError


class Folds(NamedTuple):
    """Which examples an SVM learns from: `count` random draws of `size`, or those of a file."""

    count: int = 10
    size: int = 1000
    file: str | None = None


def make_folds(folds: Folds, train: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """Indices of the examples of each fold, of the labels `train` [N] that the SVMs learn.

    UserError unless train, test [M] and each fold have the same classes, in each fold with two examples or more.
    """
    classes = np.unique(train)
    for here, there, labels in (("train", "test", test), ("test", "train", train)):
        for c in np.setdiff1d(np.union1d(train, test), labels):
            raise UserError(f"Class {c} of the {here} split is missing in the {there} split: take splits with the same "
                            "classes (--train_split, --test_split).")  # fmt: skip
    if len(classes) < 2:
        raise UserError(f"All images are of class {classes[0]}; expected two classes or more to tell apart.")
    drawn = read_folds(folds.file, len(train)) if folds.file else random_folds(train, folds.count, folds.size)
    counts = np.array([[np.count_nonzero(train[fold] == c) for c in classes] for fold in drawn])
    for fold, c in np.argwhere(counts < 2):
        raise UserError(
            f"Fold {fold + 1} has too few examples of class {classes[c]}: {counts[fold, c]}; expected two or more of "
            "each class, one to learn from and one to choose C by. Take larger folds (--fold_size, --fold_file)."
        )
    if folds.file and len(set(np.unique(train, return_counts=True)[1])) == 1 and np.ptp(counts, axis=1).max() > 1:
        print(
            f"the train split has as many examples of each class, but the folds of {folds.file} have from "
            f"{counts.min():,} to {counts.max():,}: are they of these data, and in this order?",
            flush=True,
        )
    return drawn


def read_folds(path: str | Path, examples: int) -> list[np.ndarray]:
    """Folds as STL-10's fold_indices.txt has them: indices 0 .. examples - 1 with blanks between, one line per fold.

    They count the examples in the order of the data set that they are used for: an image_folder is sorted by path, and
    tensorflow-datasets store examples shuffled, so that a published file may have to be translated.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path} (--fold_file). It has one line of indices per fold.")
    folds = []
    for number, line in enumerate(Path(path).read_text(errors="replace").splitlines(), 1):
        for word in line.split():
            if not (word.isascii() and word.isdigit() and int(word) < examples):
                raise UserError(
                    f"{path}, line {number}: {word!r} is not an index from 0 to {examples - 1}, one of the "
                    f"{examples:,} examples of the train split. Is it the file of these data, and counts it from 0?"
                )
        if line.strip():
            folds.append(np.array(line.split(), np.int64))
    if not folds:
        raise UserError(f"{path} (--fold_file) is empty; expected one line of indices per fold.")
    return folds


def random_folds(labels: np.ndarray, count: int, size: int) -> list[np.ndarray]:
    """`count` draws of `size` examples of the labels [N], the same on every machine, each without repetition.

    Balanced: no class has more than one example more than another.
    """
    if min(count, size) < 1:
        raise UserError(f"--folds is {count} and --fold_size {size}; both must be at least 1.")
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
                    f"A balanced fold of {size:,} examples has {quota:,} of class {c}, of which the train split has "
                    f"only {len(members):,}. Take a smaller --fold_size, or name the folds in a --fold_file."
                )
        folds.append(np.sort(np.concatenate(drawn)))
    return folds
