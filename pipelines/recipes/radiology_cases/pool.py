"""Opinions to one answer: a weighted sum of views, with weights learned by maximum likelihood (conditional logit).

Every task of this recipe is a choice among candidates (classes, diagnoses, texts). An expert scores all candidates; the
pool adds the scores up. With log-probabilities as scores this is the logarithmic opinion pool (Genest and Zidek,
Statistical Science 1986); with any scores it is McFadden's conditional logit (1974). Weights are never negative: an
expert can be ignored, not turned round.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize

Views = Mapping[str, np.ndarray]


def fit_weights(views: Views, truth: np.ndarray, *, towards: float = 0.0, strength: float = 1e-2) -> dict[str, float]:
    """Return a weight a view that makes the true candidates most likely.

    Args:
        views: Scores (B, n) by name, of cases that the experts did not learn from.
        truth: (B,) the right candidate of each case, -1 where unknown.
        towards: The weight that little evidence leaves unchanged.
        strength: How much a squared deviation from it costs, in nats a case.
    """
    rows = truth >= 0
    if not rows.any():
        return dict.fromkeys(views, max(towards, 1.0 if towards == 0 else towards))
    stacked = np.stack([view[rows] for view in views.values()], axis=2)  # (B, n, K)
    right = stacked[np.arange(rows.sum()), truth[rows]]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = stacked @ weights
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        chances /= chances.sum(axis=1, keepdims=True)
        own = np.maximum(chances[np.arange(len(right)), truth[rows]], 1e-30)
        off = weights - towards
        gradient = (np.einsum("bn,bnk->bk", chances, stacked) - right).mean(axis=0) + 2 * strength * off
        return float(-np.log(own).mean() + strength * (off**2).sum()), gradient

    start = np.full(len(views), max(towards, 0.1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(views))
    return {name: float(value) for name, value in zip(views, found.x, strict=True)}


def pooled(views: Views, weights: Mapping[str, float]) -> np.ndarray:
    """Return scores (B, n): the weighted sum of the views that have a weight."""
    total = np.zeros_like(next(iter(views.values())), dtype=np.float64)
    for name, view in views.items():
        total += weights.get(name, 0.0) * view
    return total


def to_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of scores (B, n) over the candidates."""
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: np.ndarray = chances / chances.sum(axis=1, keepdims=True)
    return result


def log_chances(probabilities: np.ndarray, floor: float = 1e-3) -> np.ndarray:
    """Return log-probabilities that no expert's certainty can drive below the floor's."""
    result: np.ndarray = np.log((probabilities + floor) / (1 + floor * probabilities.shape[-1]))
    return result


def standardised(scores: np.ndarray) -> np.ndarray:
    """Return scores (B, n) with mean 0 and deviation 1 over the candidates of each case; 0 where all are equal."""
    spread = scores.std(axis=1, keepdims=True)
    result: np.ndarray = np.where(
        spread > 1e-9,
        (scores - scores.mean(axis=1, keepdims=True)) / (spread + 1e-9),
        0.0,
    )
    return result


def mean_by(owner: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Return (count, F): the mean of the rows (P, F) of each owner (P,); zeros for one without rows."""
    total = np.zeros((count, rows.shape[1]))
    np.add.at(total, owner, rows)
    result: np.ndarray = total / np.maximum(np.bincount(owner, minlength=count), 1)[:, None]
    return result


def folds(count: int, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold (count,) of each case: sizes differ by one at most, the same for the same seed."""
    return np.random.default_rng(seed).permutation(count) % n_folds
