"""How well a linear SVM tells each attribute from the latents."""

from typing import NamedTuple

import numpy as np

from vae_jax.data.contract import Attributes
from vae_jax.latents.vectors import where


class Prediction(NamedTuple):
    """How well one attribute of the eval split is told from the latents."""

    attribute: str
    positives: int  # of the eval split
    base_rate: float  # share of the more frequent answer, which is what a blind guess achieves
    accuracy: float | None  # of the linear SVM; None where the train split shows one answer only
    auc: float | None  # area under its ROC curve, which 0.5 is for a blind guess; None where eval shows one answer too


def predict_attributes(
    z_train: np.ndarray, train: Attributes, z_eval: np.ndarray, evaluated: Attributes
) -> list[Prediction]:
    """One row per attribute of `train`: a linear SVM learns it from z_train [N, latents] and is judged on z_eval.

    Both are standardised with mean and standard deviation of z_train.
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
            svm = LinearSVC(dual=False).fit(z_train, on)
            accuracy = float(svm.score(z_eval, truth))
            if truth.any() and not truth.all():
                auc = float(roc_auc_score(truth, svm.decision_function(z_eval)))
        share = float(truth.mean())
        rows.append(Prediction(name, int(truth.sum()), max(share, 1 - share), accuracy, auc))
    return rows
