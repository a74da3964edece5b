"""Personalised PageRank: how strongly concepts are tied to the evidence of a case.

Source: Haveliwala, Topic-Sensitive PageRank (WWW 2002). A walk restarts at the seeds with chance `alpha` at every step;
12 steps at alpha .5 leave less than .03% of the mass unaccounted for.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph


def seed_vector(graph: "KnowledgeGraph", seeds: Mapping[str, float]) -> np.ndarray:
    """Return (V,) float32 that sums to 1 over the seeds; zeros if there are none.

    Raises:
        KeyError: If a seed is not in the graph.
        ValueError: If a weight is negative or not finite.
    """
    vector = np.zeros(graph.n_concepts, dtype=np.float32)
    for curie, weight in seeds.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"Expected a finite seed weight >= 0 (got {weight} for {curie}).")
        vector[graph.index(curie)] += weight
    total = vector.sum()
    return vector / total if total > 0 else vector


def personalised_pagerank(
    graph: "KnowledgeGraph", seeds: Mapping[str, float], *, alpha: float = 0.5, steps: int = 12
) -> np.ndarray:
    """Return (V,) float32 visiting probabilities; they sum to 1 where no seed is isolated."""
    return _walk(graph, seed_vector(graph, seeds), alpha, steps)


def personalised_pagerank_batch(
    graph: "KnowledgeGraph", seeds: Sequence[Mapping[str, float]], *, alpha: float = 0.5, steps: int = 12
) -> np.ndarray:
    """Return (B, V) float32, row b for `seeds[b]`; equal to the single walks within float32 rounding."""
    if not seeds:
        return np.zeros((0, graph.n_concepts), dtype=np.float32)
    start = np.stack([seed_vector(graph, one) for one in seeds], axis=1)  # (V, B)
    return np.ascontiguousarray(_walk(graph, start, alpha, steps).T)


def _walk(graph: "KnowledgeGraph", start: np.ndarray, alpha: float, steps: int) -> np.ndarray:
    if not (0 < alpha <= 1 and steps >= 0):
        raise ValueError(f"Expected 0 < alpha <= 1 and steps >= 0 (got {alpha} and {steps}).")
    matrix, scores = graph.walk_matrix, start
    for _ in range(steps):
        scores = matrix @ scores
        scores *= np.float32(1 - alpha)
        scores += np.float32(alpha) * start
    return scores
