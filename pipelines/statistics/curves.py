"""Curves and tables behind the plots: ROC, precision-recall, reliability, net benefit, confusion, Bland-Altman."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points of a curve: `x` and `y` of the same length."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Bins of equal count: mean stated probability, observed share, and how many cases."""

    stated: np.ndarray
    observed: np.ndarray
    count: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Bland-Altman: mean difference (`bias`) and 95 % limits of agreement, in the unit of the measurements."""

    mean: np.ndarray
    difference: np.ndarray
    bias: float
    low: float
    high: float


def roc_curve(positive: np.ndarray, score: np.ndarray) -> Curve:
    """Return false-positive rate (x) and sensitivity (y) from (0, 0) to (1, 1), a point per distinct score."""
    false, true = _counts_above(positive, score)
    return Curve(x=false / max((~positive).sum(), 1), y=true / max(positive.sum(), 1))


def precision_recall_curve(positive: np.ndarray, score: np.ndarray) -> Curve:
    """Return recall (x) and precision (y), a point per distinct score, the highest score first."""
    false, true = _counts_above(positive, score)
    false, true = false[1:], true[1:]
    return Curve(x=true / max(positive.sum(), 1), y=true / (true + false))


def reliability(positive: np.ndarray, probability: np.ndarray, n_bins: int = 5) -> Reliability:
    """Return stated probability against observed share over bins of equal count."""
    order = np.argsort(probability, kind="stable")
    bins = [rows for rows in np.array_split(order, n_bins) if len(rows)]
    return Reliability(
        stated=np.array([probability[rows].mean() for rows in bins]),
        observed=np.array([positive[rows].mean() for rows in bins]),
        count=np.array([len(rows) for rows in bins]),
    )


def net_benefit(positive: np.ndarray, probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return true positives minus weighted false positives per case (T,), where one acts from each threshold on.

    The weight is the odds of the threshold (Vickers and Elkin, Medical Decision Making 2006). Thresholds lie in (0, 1).
    """
    acts = probability[None] >= thresholds[:, None]
    true, false = (acts & positive).mean(axis=1), (acts & ~positive).mean(axis=1)
    return true - false * thresholds / (1 - thresholds)


def confusion_table(truth: np.ndarray, answer: np.ndarray, n_classes: int) -> np.ndarray:
    """Return counts (L, L), rows the truth, columns the answer."""
    table = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(table, (truth, answer), 1)
    return table


def bland_altman(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Return the agreement of two measurements of the same things (Bland and Altman, Lancet 1986)."""
    difference = first - second
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    return Agreement(
        mean=(first + second) / 2,
        difference=difference,
        bias=bias,
        low=bias - 1.96 * deviation,
        high=bias + 1.96 * deviation,
    )


def _counts_above(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positives at or above each distinct score, from none to all."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    true = np.cumsum(positive[order])[ends]
    return np.concatenate([[0], ends + 1 - true]), np.concatenate([[0], true])
