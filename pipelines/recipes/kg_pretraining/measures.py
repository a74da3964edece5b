"""The filtered ranking protocol over all concepts, and what to hold a model against."""

from collections.abc import Callable

import numpy as np

from medmm.encoders.graph import N_RELATIONS
from pipelines.recipes.kg_pretraining.questions import AnswerBook, Questions

HITS = (1, 3, 10)
# Anchors (B,) and relations (B,) to scores (B, V) of every concept as the answer.
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


def filtered_ranks(asked: Questions, known: AnswerBook, score: Scorer, *, chunk: int = 128) -> np.ndarray:
    """Return the rank (N, 2) of each relation's true end among all concepts, asked forwards and backwards.

    Other true answers (of any split) do not count as errors; ties take the mean of the best and the worst place
    (Bordes et al. 2013; Berrendorf et al. 2020 on ties).

    Raises:
        ValueError: If a true answer's score is not finite: it would rank first.
    """
    ranks = []
    for start in range(0, len(asked), chunk):
        part = asked.take(slice(start, start + chunk))
        scores = score(part.anchor, part.relation).copy()
        own = scores[np.arange(len(part)), part.answer][:, None]
        if not np.isfinite(own).all():
            raise ValueError("Expected finite scores of the true answers (got NaN or infinity).")
        scores[known.of(part.keys)] = -np.inf
        ranks.append(1 + (scores > own).sum(axis=1) + (scores == own).sum(axis=1) / 2)
    return np.concatenate(ranks).reshape(2, -1).T


def popularity_scorer(train: Questions, n_concepts: int) -> Scorer:
    """The yardstick that looks at the relation only: how often a concept answers it among the training relations."""
    counts = np.zeros((N_RELATIONS, n_concepts), dtype=np.float32)
    np.add.at(counts, (train.relation, train.answer), 1)
    return lambda anchors, relations: counts[relations]


def reciprocal(ranks: np.ndarray) -> float:
    """Mean reciprocal rank."""
    return float((1 / ranks).mean())


def measures(ranks: np.ndarray) -> dict[str, float]:
    """Return MRR and Hits@k of ranks of any shape."""
    return {"MRR": reciprocal(ranks)} | {f"Hits@{k}": float((ranks <= k).mean()) for k in HITS}
