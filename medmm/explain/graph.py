"""Concept attributions and evidence paths through the knowledge graph."""

import numpy as np
from torch import Tensor

import kg
from kg import KnowledgeGraph
from medmm.evidence import seeds
from medmm.inputs import CaseReader, CaseView
from medmm.results import ConceptAttribution, EvidencePath, MentionEvidence, PathHop

MAX_CONCEPTS = 12
MAX_PATHS = 5


def concept_attributions(nodes: Tensor, view: CaseView, graph: KnowledgeGraph) -> tuple[ConceptAttribution, ...]:
    """Return the case's own evidence and the concepts near it that counted most, evidence first, each by strength."""
    subgraph = view.features.subgraph
    if subgraph is None:
        return ()
    origins = {item.concept: item.origin for item in view.evidence}
    values = nodes.float().cpu().numpy()
    is_evidence = subgraph.seed_weights > 0
    strongest = np.lexsort((-np.abs(values), ~is_evidence))[:MAX_CONCEPTS]
    found = []
    for row in strongest:
        index = int(subgraph.concepts[row])
        concept = graph.id(index)
        found.append(
            ConceptAttribution(
                concept=concept,
                name=graph.name(index),
                kind=graph.kind(index),
                origin=origins.get(concept, "graph"),
                value=float(values[row]),
            )
        )
    return tuple(found)


def evidence_paths(reader: CaseReader, view: CaseView, target_concept: str) -> tuple[EvidencePath, ...]:
    """Return the best paths from the case's evidence to the answer's concept; empty means that there is none."""
    graph = reader.graph
    if graph is None or target_concept not in graph:
        return ()
    starts = seeds(view.evidence, reader.answers, graph)
    if not starts:
        return ()
    origins = {item.concept: item.origin for item in view.evidence}
    return tuple(
        EvidencePath(
            hops=tuple(_hop(graph, hop) for hop in path.hops),
            score=path.score,
            origin=origins.get(path.hops[0].subject if path.hops[0].is_forward else path.hops[0].object, "report"),
        )
        for path in kg.paths(graph, list(starts), target_concept, limit=MAX_PATHS)
    )


def mention_evidence(view: CaseView, graph: KnowledgeGraph) -> tuple[MentionEvidence, ...]:
    """Return the linker's mentions with the names and kinds that the graph gives them."""
    return tuple(
        MentionEvidence(
            start=mention.start,
            end=mention.end,
            text=mention.text,
            concept=mention.concept,
            name=graph.name(graph.index(mention.concept)),
            kind=graph.kind(graph.index(mention.concept)),
            status=mention.status,
            experiencer=mention.experiencer,
            temporality=mention.temporality,
            score=mention.score,
        )
        for mention in view.mentions
    )


def _hop(graph: KnowledgeGraph, hop: "kg.Hop") -> PathHop:
    return PathHop(
        subject=hop.subject,
        subject_name=graph.name(graph.index(hop.subject)),
        predicate=hop.predicate,
        object=hop.object,
        object_name=graph.name(graph.index(hop.object)),
        source=hop.source,
        source_version=hop.source_version,
        trust=hop.trust,
        is_forward=hop.is_forward,
    )
