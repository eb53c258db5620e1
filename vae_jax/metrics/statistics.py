"""Statistics over per-image metrics."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class PairedTest(NamedTuple):
    """A two-sided t-test for paired samples."""

    first: str
    second: str
    difference: float  # mean of first - second
    t: float | None  # None if the difference is the same for all images: then there is no test
    p: float | None  # 0.0 if below the smallest double
    images: int
    adjusted: float | None  # p by Holm's correction for all tests of one table


def paired_t_tests(values: Mapping[str, np.ndarray]) -> list[PairedTest]:
    """Tests every pair of {name: [N]}, the same images in the same order, in float64.

    The DFC-VAE article tests the originals against the plain VAE where its text compares the DFC-VAE with the plain
    one; here all pairs are tested, each by name, and corrected for their number.
    """
    results = []
    for first, second in itertools.combinations(values, 2):
        a, b = values[first].astype(np.float64), values[second].astype(np.float64)
        t, p = map(float, stats.ttest_rel(a, b)) if np.ptp(a - b) > 0 else (None, None)
        results.append(PairedTest(first, second, float(np.mean(a - b)), t, p, len(a), None))
    tested = [i for i, test in enumerate(results) if test.p is not None]
    for i, adjusted in zip(tested, holm([results[i].p for i in tested]), strict=True):
        results[i] = results[i]._replace(adjusted=adjusted)
    return results


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number m: the k-th smallest times m - k + 1, at most 1 and never below a smaller one
    (Holm 1979). Those below alpha are rejected together with at most the probability alpha of any false rejection."""
    order, m, adjusted = np.argsort(p), len(p), np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p, np.float64)[order] * (m - np.arange(m))))
    return adjusted.tolist()
