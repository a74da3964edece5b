"""The part of the graph that belongs to a case: what a walk from its evidence visits most, and the relations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kg.walk import personalised_pagerank, seed_vector

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph


# Above this many concepts a table over the graph is faster than binary search.
TABLE_SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgraph:
    """Concepts and the relations among them, in a fixed order: best score first.

    `concepts` (V,) int64 are positions in the graph, `edges` (2, E) int64 local positions (subject, object),
    `relations` (E,) int64 predicate ids, `rows` (E,) int64 the relations' rows in the graph, `weights` (E,) float32
    strength x trust, `seed_weights` (V,) float32 (0 for concepts that are no seed), `scores` (V,) float32 of the walk.
    """

    concepts: np.ndarray
    edges: np.ndarray
    relations: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    seed_weights: np.ndarray
    scores: np.ndarray


def case_subgraph(graph: "KnowledgeGraph", seeds: Mapping[str, float], *, size: int = 250) -> Subgraph:
    """Return the seeds and the concepts nearest to them, `size` in all.

    Seeds come in even when the walk ranks them low; more seeds than `size` are cut by weight. Ties go by position, so
    the same seeds give the same subgraph.
    """
    if size < 1:
        raise ValueError(f"Expected size >= 1 (got {size}).")
    weights = seed_vector(graph, seeds)
    scores = personalised_pagerank(graph, seeds)
    reached = np.flatnonzero(scores > 0)
    order = np.lexsort((reached, -scores[reached], weights[reached] == 0))
    chosen = reached[order[:size]]
    chosen = chosen[np.lexsort((chosen, -scores[chosen]))].astype(np.int64)
    return induced(graph, chosen, seed_weights=weights[chosen], scores=scores[chosen])


def induced(graph: "KnowledgeGraph", concepts: np.ndarray, *, seed_weights: np.ndarray, scores: np.ndarray) -> Subgraph:
    """Return the subgraph of the given concepts (V,) with every relation among them, in row order."""
    arrays = graph.arrays
    starts = arrays["forward_indptr"][concepts]
    counts = arrays["forward_indptr"][concepts + 1] - starts
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    rows = np.sort(offsets + np.arange(counts.sum())) if len(concepts) else np.zeros(0, dtype=np.int64)
    ordered = np.argsort(concepts)
    targets = _places(arrays["object"][rows], concepts, ordered)
    rows, targets = rows[targets >= 0], targets[targets >= 0]
    trust = np.array([source.trust for source in graph.sources], dtype=np.float32)
    return Subgraph(
        concepts=concepts,
        edges=np.stack([_places(arrays["subject"][rows], concepts, ordered), targets]),
        relations=arrays["predicate"][rows].astype(np.int64),
        rows=rows.astype(np.int64),
        weights=arrays["weight"][rows] * trust[arrays["relation_source"][rows]],
        seed_weights=seed_weights.astype(np.float32),
        scores=scores.astype(np.float32),
    )


def _places(wanted: np.ndarray, concepts: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Positions of `wanted` in `concepts`, -1 where absent. Small sets are searched, large ones put into a table."""
    if not len(concepts):
        return np.full(len(wanted), -1, dtype=np.int64)
    if len(concepts) > TABLE_SIZE:
        table = np.full(max(int(concepts.max()), int(wanted.max(initial=0))) + 1, -1, dtype=np.int64)
        table[concepts] = np.arange(len(concepts))
        looked_up: np.ndarray = table[wanted]
        return looked_up
    at = np.minimum(np.searchsorted(concepts, wanted, sorter=ordered), len(concepts) - 1)
    found = ordered[at]
    result: np.ndarray = np.where(concepts[found] == wanted, found, -1)
    return result
