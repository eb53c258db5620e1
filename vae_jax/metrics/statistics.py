"""Statistics over per-image metrics."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats


class PairedTest(NamedTuple):
    """A two-sided t-test for paired samples."""

    first: str
    second: str
    difference: float  # mean of first - second
    t: float
    p: float  # 0.0 if below the smallest double
    images: int


def paired_t_tests(values: Mapping[str, np.ndarray]) -> list[PairedTest]:
    """Tests every pair of {name: [N]}, the same images in the same order, in float64.

    The DFC-VAE article tests the originals against the plain VAE where its text compares the DFC-VAE with the plain
    one; here all pairs are tested, each by name.
    """
    results = []
    for first, second in itertools.combinations(values, 2):
        a, b = values[first].astype(np.float64), values[second].astype(np.float64)
        test = stats.ttest_rel(a, b)
        results.append(
            PairedTest(first, second, float(np.mean(a - b)), float(test.statistic), float(test.pvalue), len(a))
        )
    return results
