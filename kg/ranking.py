"""Rank diagnoses by how strongly the graph ties them to the evidence of a text, with the paths that say why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kg.evidence import EvidencePath, paths
from kg.text.mention import Mention
from kg.walk import personalised_pagerank

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

# How much a mention counts as evidence, by what the text says and by what it names.
STATUS_WEIGHT = {"present": 1.0, "uncertain": 0.5, "absent": 0.0}
KIND_WEIGHT = {"finding": 1.0, "phenotype": 1.0, "disease": 1.0, "code": 0.5, "anatomy": 0.3}
# Popular concepts are visited whatever the evidence; dividing by popularity**.5 takes that out.
POPULARITY_EXPONENT = 0.5
PATHS_PER_DIAGNOSIS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedDiagnosis:
    """A candidate with its score (comparable within one ranking) and the evidence paths that lead to it."""

    concept: str
    name: str
    score: float
    paths: tuple[EvidencePath, ...] = ()


def evidence_seeds(
    graph: "KnowledgeGraph", mentions: Iterable[Mention], *, exclude: Iterable[str] = ()
) -> dict[str, float]:
    """Return seed weights by concept: what the text asserts of this patient now, each concept once.

    Args:
        exclude: Concepts that must not be seeds, such as the diagnosis itself when a ranking is evaluated.
    """
    left_out = {graph.index(curie) for curie in exclude if curie in graph}
    seeds: dict[str, float] = {}
    for mention in mentions:
        if not mention.is_evidence or mention.concept not in graph:
            continue
        concept = graph.index(mention.concept)
        if concept in left_out:
            continue
        weight = STATUS_WEIGHT[mention.status] * KIND_WEIGHT.get(graph.kind(concept), 0.0)
        if weight > 0:
            curie = graph.id(concept)
            seeds[curie] = max(seeds.get(curie, 0.0), weight)
    return seeds


def walk_scores(graph: "KnowledgeGraph", seeds: Mapping[str, float], candidates: np.ndarray) -> np.ndarray:
    """Return (n,) walk scores of candidate positions, freed of popularity; zeros without seeds."""
    scores = personalised_pagerank(graph, seeds)[candidates]
    popularity = np.maximum(graph.arrays["popularity"][candidates], np.finfo(np.float32).tiny)
    result: np.ndarray = scores / popularity**POPULARITY_EXPONENT
    return result


def rank(
    mentions: Iterable[Mention],
    graph: "KnowledgeGraph | None" = None,
    top: int = 10,
    candidates: Sequence[str] | None = None,
) -> list[RankedDiagnosis]:
    """Return the diagnoses that the mentions speak for, best first, each with its best evidence paths.

    Args:
        mentions: As `kg.link` gives them; denied ones and those of relatives or the past are no evidence.
        graph: The default graph where None.
        top: Most diagnoses returned.
        candidates: CURIEs to choose from; by default every disease of the graph.
    Returns:
        Fewer than `top` where the graph ties nothing more to the evidence; empty where there is no evidence.
    """
    if graph is None:
        from kg.building import load_default

        graph = load_default()
    seeds = evidence_seeds(graph, mentions)
    if not seeds:
        return []
    pool = (
        graph.of_kind("disease")
        if candidates is None
        else np.array(sorted({graph.index(curie) for curie in candidates}), dtype=np.int64)
    )
    scores = walk_scores(graph, seeds, pool)
    order = np.lexsort((pool, -scores))[:top]
    return [
        RankedDiagnosis(
            concept=graph.id(int(pool[at])),
            name=graph.name(int(pool[at])),
            score=float(scores[at]),
            paths=tuple(paths(graph, seeds, graph.id(int(pool[at])), limit=PATHS_PER_DIAGNOSIS)),
        )
        for at in order
        if scores[at] > 0
    ]
