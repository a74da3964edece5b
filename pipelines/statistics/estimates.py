"""A figure with its interval: percentile bootstrap over patients, who are drawn whole with all their rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

N_BOOTSTRAP = 2000
_MAX_REDRAWS = 20  # as many draws for each resample that is kept


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Estimate):
    """First model minus second on the same patients; `p_value` is two-sided, by inverting the bootstrap interval."""

    p_value: float

    def to_dict(self) -> dict[str, float | int]:
        """For `metrics.json`."""
        return {**Estimate.to_dict(self), "p_value": self.p_value}


def bootstrap(
    metric: Callable[..., float],
    *columns: np.ndarray,
    patients: np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = N_BOOTSTRAP,
) -> Estimate:
    """Return a metric of row-aligned columns with its interval.

    Resamples on which the metric is undefined (one class only) are drawn again.

    Args:
        metric: Takes the columns, returns a number; NaN where undefined.
        columns: Arrays whose first axis is the rows (cases).
        patients: (N,) whose row it is; every row is a patient of its own where this is None.
        seed: Start of the random numbers.
        n_resamples: How often patients are drawn.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    values = resampled(metric, *columns, patients=patients, seed=seed, n_resamples=n_resamples)
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (np.nan, np.nan)
    value = float(metric(*columns)) if len(columns[0]) else float("nan")
    return Estimate(value=value, low=float(low), high=float(high), n=_n_patients(columns[0], patients))


def paired_difference(
    metric: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    n_resamples: int = N_BOOTSTRAP,
) -> Difference:
    """Return metric(first) - metric(second) on the same patients, with a paired bootstrap interval and its p-value.

    The p-value is twice the smaller share of resampled differences on either side of 0, both counted with one more
    resample, so that it is never 0 (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.4).
    """

    def difference(t: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        return metric(t, a) - metric(t, b)

    values = resampled(difference, truth, first, second, patients=patients, n_resamples=n_resamples)
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (np.nan, np.nan)
    tail = min((values <= 0).sum(), (values >= 0).sum())
    return Difference(
        value=float(difference(truth, first, second)),
        low=float(low),
        high=float(high),
        n=_n_patients(truth, patients),
        p_value=float(min(1.0, 2 * (tail + 1) / (len(values) + 1))) if len(values) else float("nan"),
    )


def resampled(
    metric: Callable[..., float],
    *columns: np.ndarray,
    patients: np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = N_BOOTSTRAP,
) -> np.ndarray:
    """Return the finite values (R,) of a metric on resamples of patients; fewer where it is rarely defined."""
    n = len(columns[0])
    if n == 0:
        return np.empty(0)
    rows_of = None if patients is None else _rows_of_patients(patients)
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(_MAX_REDRAWS * n_resamples):
        if len(values) == n_resamples:
            break
        if rows_of is None:
            rows = rng.integers(0, n, n)
        else:
            rows = np.concatenate([rows_of[k] for k in rng.integers(0, len(rows_of), len(rows_of))])
        value = metric(*(column[rows] for column in columns))
        if np.isfinite(value):
            values.append(value)
    return np.array(values)


def _rows_of_patients(patients: np.ndarray) -> list[np.ndarray] | None:
    """The rows of each patient; None where each has one row only, which is drawn faster."""
    _, codes = np.unique(patients, return_inverse=True)
    counts = np.bincount(codes)
    if counts.max() == 1:
        return None
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])


def _n_patients(column: np.ndarray, patients: np.ndarray | None) -> int:
    return len(column) if patients is None else len(np.unique(patients))
