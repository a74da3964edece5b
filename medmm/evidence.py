"""What a case gives the knowledge graph to start from: concepts that the report affirms or the image shows.

The possible answers of the model are never evidence for themselves: class concepts and what matches them exactly are
left out of the seeds, so that the graph cannot hand a diagnosis back that somebody wrote into the report.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kg import KnowledgeGraph, Mention
from kg.schema import CLOSE_MATCH, EXACT_MATCH
from medmm.config import TaskSpec
from medmm.encoders.names import name_vectors

UNCERTAIN_WEIGHT = 0.5
_EVIDENCE_KINDS = frozenset({"disease", "finding", "phenotype", "anatomy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A concept that speaks for the case (`weight` > 0) or was looked for and not found (`weight` < 0)."""

    concept: str
    weight: float
    origin: Literal["report", "image"]


def report_evidence(mentions: Sequence[Mention], graph: KnowledgeGraph) -> list[Evidence]:
    """Return one item a concept: +1 if affirmed anywhere, +0.5 if only uncertain, -1 if only denied.

    Only what is said of this patient and now counts; family history and history do not.
    """
    weights: dict[str, float] = {}
    for mention in mentions:
        if mention.experiencer.lower() != "patient" or mention.temporality.lower() != "recent":
            continue
        if graph.kind(graph.index(mention.concept)) not in _EVIDENCE_KINDS:
            continue
        weight = {"present": 1.0, "uncertain": UNCERTAIN_WEIGHT}.get(mention.status, -1.0)
        weights[mention.concept] = max(weight, weights.get(mention.concept, -1.0))
    return [Evidence(concept=concept, weight=weight, origin="report") for concept, weight in sorted(weights.items())]


def answer_concepts(tasks: Iterable[TaskSpec], graph: KnowledgeGraph) -> frozenset[str]:
    """Return the ids of all fusion tasks' class concepts and of what the graph calls the same thing."""
    found: set[str] = set()
    for task in tasks:
        for label in task.classes:
            if task.source == "fusion" and label.concept in graph:
                index = graph.index(label.concept)
                same = [n.concept for n in graph.neighbors(index) if n.predicate in (EXACT_MATCH, CLOSE_MATCH)]
                found.update(graph.id(concept) for concept in [index, *same])
    return frozenset(found)


def seeds(evidence: Iterable[Evidence], excluded: frozenset[str], graph: KnowledgeGraph) -> dict[str, float]:
    """Return the weights from which a walk starts: affirmed concepts that are not answers, the strongest of each."""
    found: dict[str, float] = {}
    for item in evidence:
        if item.weight > 0 and item.concept in graph and graph.id(graph.index(item.concept)) not in excluded:
            found[item.concept] = max(item.weight, found.get(item.concept, 0.0))
    return found


def walk_scores(scores: np.ndarray, graph: KnowledgeGraph, task: TaskSpec) -> np.ndarray:
    """Return float32 (L,): log of how often the walk visits each class's concept against how well connected it is.

    Centred over the classes; 0 for a class without a concept. `scores` (V,) are the walk's visiting probabilities.
    Damping by the square root of the degree keeps hubs from winning (Himmelstein et al., eLife 2017).
    """
    values = np.zeros(len(task.classes), dtype=np.float32)
    known = [row for row, label in enumerate(task.classes) if label.concept in graph]
    for row in known:
        index = graph.index(task.classes[row].concept)
        values[row] = np.log10((float(scores[index]) + 1e-7) / (float(graph.degrees[index]) + 1) ** 0.5)
    if known:
        values[known] -= values[known].mean()
    return values


def concept_vectors(graph: KnowledgeGraph, task: TaskSpec) -> np.ndarray:
    """Return float32 (L, 2 x NAME_WIDTH): a class concept's name, and the mean over its neighbours' names."""
    rows = []
    for label in task.classes:
        if label.concept not in graph:
            rows.append(np.zeros_like(np.concatenate([name_vectors(["a"])[0]] * 2)))
            continue
        index = graph.index(label.concept)
        around = sorted({neighbor.concept for neighbor in graph.neighbors(index)})[:200]
        nearby = name_vectors([graph.name(concept) for concept in around]).mean(axis=0) if around else 0.0
        own = name_vectors([graph.name(index)])[0]
        rows.append(np.concatenate([own, np.broadcast_to(nearby, own.shape)]))
    return np.stack(rows).astype(np.float32)
