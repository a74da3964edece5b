"""Statistics on plain arrays: metrics with bootstrap intervals over patients. No model, no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

N_BOOTSTRAP = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric's value with its 95 % percentile bootstrap interval over `n` patients."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """For `metrics.json`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def __str__(self) -> str:
        return f"{self.value:.3f} (95% CI {self.low:.3f} to {self.high:.3f}, n={self.n})"


def bootstrap(
    metric: Callable[..., float], *columns: np.ndarray, seed: int = 0, n_resamples: int = N_BOOTSTRAP
) -> Estimate:
    """Return a metric of row-aligned columns with its interval; rows are patients.

    Resamples on which the metric is undefined (one class only) are drawn again.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    n = len(columns[0])
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(20 * n_resamples):
        if len(values) == n_resamples:
            break
        rows = rng.integers(0, n, n)
        value = metric(*(column[rows] for column in columns))
        if np.isfinite(value):
            values.append(value)
    low, high = np.quantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
    return Estimate(value=float(metric(*columns)), low=float(low), high=float(high), n=n)


def paired_difference(
    metric: Callable[[np.ndarray, np.ndarray], float], truth: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Estimate:
    """Return metric(first) - metric(second) on the same patients, with a paired bootstrap interval."""
    return bootstrap(lambda t, a, b: metric(t, a) - metric(t, b), truth, first, second)


def auroc(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve; for more than two classes the mean over one-against-rest; NaN if undefined.

    Args:
        truth: (N,) class indices.
        probabilities: (N, L).
    """
    if probabilities.shape[1] == 2:
        return _binary_auroc(truth == 1, probabilities[:, 1])
    return float(np.mean([_binary_auroc(truth == label, probabilities[:, label]) for label in np.unique(truth)]))


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of patients whose most probable class is right."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def balanced_accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of the classes' recalls."""
    right = probabilities.argmax(axis=1) == truth
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray, n_bins: int = 5) -> float:
    """Mean gap between confidence and accuracy over equal-count bins (Naeini et al., AAAI 2015)."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(float)
    order = np.argsort(confidence, kind="stable")
    bins = [rows for rows in np.array_split(order, n_bins) if len(rows)]
    return float(sum(len(rows) * abs(confidence[rows].mean() - right[rows].mean()) for rows in bins) / len(truth))


METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": auroc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "ece": expected_calibration_error,
}


def _binary_auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Share of pairs in order, ties half (Hanley and McNeil, Radiology 1982); NaN if a class is empty.

    Equal to scikit-learn's `roc_auc_score` and some twenty times faster, which thousands of resamples need.
    """
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
