"""Tests between two models on the same cases."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, rankdata


@dataclass(frozen=True, slots=True, kw_only=True)
class DeLong:
    """AUROC of two scores on the same cases, their difference with its standard error, and the two-sided p-value."""

    first: float
    second: float
    standard_error: float
    z: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Cases that only one of two models got right, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def delong_test(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """Compare two AUROCs on the same independent cases.

    Args:
        positive: (N,) bool.
        first: (N,) score of one model.
        second: (N,) score of the other.
    Raises:
        ValueError: Below two cases of either class.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; placements by ranks as Sun and Xu, IEEE SPL 2014.
    """
    positive = positive.astype(bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise ValueError(f"Expected at least two cases of each class (got {m} and {n}).")
    of_positives, of_negatives = [], []
    for score in (first, second):
        everyone = rankdata(score)
        of_positives.append((everyone[positive] - rankdata(score[positive])) / n)
        of_negatives.append(1 - (everyone[~positive] - rankdata(score[~positive])) / m)
    areas = np.mean(of_positives, axis=1)
    covariance = np.cov(of_positives) / m + np.cov(of_negatives) / n
    contrast = np.array([1.0, -1.0])
    error = float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))
    gap = float(areas[0] - areas[1])
    z = gap / error if error > 0 else 0.0 if gap == 0 else float(np.copysign(np.inf, gap))
    return DeLong(
        first=float(areas[0]), second=float(areas[1]), standard_error=error, z=z, p_value=float(2 * norm.sf(abs(z)))
    )


def mcnemar_test(is_right_first: np.ndarray, is_right_second: np.ndarray) -> McNemar:
    """Compare two accuracies on the same independent cases by the exact binomial test of the discordant ones.

    Source: McNemar, Psychometrika 1947.
    """
    only_first = int((is_right_first & ~is_right_second).sum())
    only_second = int((~is_right_first & is_right_second).sum())
    total = only_first + only_second
    p_value = float(binomtest(only_first, total).pvalue) if total else 1.0
    return McNemar(only_first=only_first, only_second=only_second, p_value=p_value)
