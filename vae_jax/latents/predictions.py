"""Linear prediction of attributes from latents."""

from typing import NamedTuple

import numpy as np

from vae_jax.data.contract import Attributes
from vae_jax.latents.vectors import where


class Prediction(NamedTuple):
    """How well a linear SVM predicts one attribute of the eval split."""

    attribute: str
    positives: int  # in the eval split
    base_rate: float  # share of the more frequent value: the accuracy of always guessing it
    accuracy: float | None  # of the SVM; None if the attribute is constant in the train split
    auc: float | None  # area under the ROC curve, 0.5 for guessing; None if constant in either split


def predict_attributes(
    z_train: np.ndarray, train: Attributes, z_eval: np.ndarray, evaluated: Attributes
) -> list[Prediction]:
    """One row per attribute of `train`: a linear SVM is fitted to z_train [N, latents] and evaluated on z_eval.

    Both are standardised with the mean and standard deviation of z_train.
    """
    from sklearn.metrics import roc_auc_score  # slow to import
    from sklearn.svm import LinearSVC

    mean, std = z_train.mean(axis=0), z_train.std(axis=0)
    std = np.where(std > 0, std, 1)
    z_train, z_eval = (z_train - mean) / std, (z_eval - mean) / std
    rows = []
    for name, on in zip(train.names, train.values.T, strict=True):
        truth, accuracy, auc = where(evaluated, name), None, None
        if on.any() and not on.all():
            svm = LinearSVC().set_params(dual=False).fit(z_train, on)
            accuracy = float(svm.score(z_eval, truth))
            if truth.any() and not truth.all():
                auc = float(roc_auc_score(truth, svm.decision_function(z_eval)))
        share = float(truth.mean())
        rows.append(Prediction(name, int(truth.sum()), max(share, 1 - share), accuracy, auc))
    return rows
