"""How high the right answer ranks. `ranks` is (N,), 1 for the top; infinite where the answer was not ranked at all."""

import numpy as np


def ranks_of(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the rank (N,) of each case's class in scores (N, L); cases of equal score all get the worst rank."""
    own = scores[np.arange(len(truth)), truth][:, None]
    return (scores >= own).sum(axis=1).astype(float)


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Share of cases whose answer is among the first `k` (R@k)."""
    return float((ranks <= k).mean())


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Mean of 1/rank (Voorhees, TREC-8, 1999)."""
    return float((1 / ranks).mean())
