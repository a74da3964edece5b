"""Train, validation and test relations that do not leak into each other.

What says nearly the same must not be split: both directions of a pair, the same pair under several predicates or
sources, and pairs whose ends are matched to each other across kinds (`close_match`). All of them go to one side.
Relations that this package derived from names are no targets: they repeat what a name says.
"""

from dataclasses import dataclass

import numpy as np

from kg import KnowledgeGraph
from kg.building import DERIVED
from kg.schema import CLOSE_MATCH, EXACT_MATCH, HAS_IMAGING_FINDING, HAS_PHENOTYPE, SUBCLASS_OF

TARGETS = (HAS_PHENOTYPE, HAS_IMAGING_FINDING, SUBCLASS_OF)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSplit:
    """Rows of the graph's relations: `messages` may be passed along in training and testing; the rest are targets."""

    messages: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_relations(graph: KnowledgeGraph, *, held_out: float = 0.05, seed: int = 0) -> LinkSplit:
    """Return leakage-safe splits: `held_out` of the target pairs for validation and as many for test."""
    arrays = graph.arrays
    cluster = match_clusters(graph)
    first = np.minimum(cluster[arrays["subject"]], cluster[arrays["object"]]).astype(np.int64)
    second = np.maximum(cluster[arrays["subject"]], cluster[arrays["object"]]).astype(np.int64)
    pair = first * graph.n_concepts + second
    derived = next((at for at, source in enumerate(graph.sources) if source.name == DERIVED), -1)
    predicates = [graph.predicates.index(name) for name in TARGETS]
    is_target = (
        np.isin(arrays["predicate"], predicates)
        & (arrays["relation_source"] != derived)
        & (arrays["polarity"] > 0)
        & (first != second)
    )
    pairs = np.unique(pair[is_target])
    drawn = np.random.default_rng(seed).permutation(len(pairs))
    size = max(1, int(held_out * len(pairs)))
    validation, test = pairs[drawn[:size]], pairs[drawn[size : 2 * size]]
    in_validation, in_test = np.isin(pair, validation), np.isin(pair, test)
    is_usable = ~in_validation & ~in_test & (arrays["polarity"] > 0)
    return LinkSplit(
        messages=np.flatnonzero(is_usable),
        train=np.flatnonzero(is_usable & is_target),
        validation=np.flatnonzero(in_validation & is_target),
        test=np.flatnonzero(in_test & is_target),
    )


def match_clusters(graph: KnowledgeGraph) -> np.ndarray:
    """Return (V,) a number for each group of concepts that are matched to each other, directly or through others."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    arrays = graph.arrays
    codes = [graph.predicates.index(name) for name in (CLOSE_MATCH, EXACT_MATCH)]
    rows = np.isin(arrays["predicate"], codes)
    ends = (arrays["subject"][rows], arrays["object"][rows])
    matrix = csr_array((np.ones(int(rows.sum())), ends), shape=(graph.n_concepts, graph.n_concepts))
    labels: np.ndarray = connected_components(matrix, directed=False)[1]
    return labels
