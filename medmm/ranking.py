"""Ranking any concepts of the knowledge graph for a case: an open vocabulary, anchored in what the graph knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from medmm.config import ClassSpec, TaskSpec
from medmm.decision import TaskDecision
from medmm.encoders.source_match import SourceMatch
from medmm.encoders.tokens import Tokens
from medmm.errors import UsageError
from medmm.evidence import answer_concepts, concept_vectors, seeds, walk_scores
from medmm.inputs import CaseReader, CaseView, collate


@dataclass(frozen=True, slots=True)
class RankedConcept:
    """A candidate with its score: a logit, comparable within one case only."""

    concept: str
    name: str
    score: float


@torch.no_grad()
def rank_concepts(
    reader: CaseReader, view: CaseView, task: str, candidates: Sequence[str]
) -> tuple[RankedConcept, ...]:
    """Return the candidates, best first, as a `ranking` task of the model scores them.

    They need not be the task's own classes: a candidate enters only by its concept's vector, its name, by how well
    a walk from the case's evidence reaches it, and, where the model reads them, by what the graph's sources say of it.
    Candidates are never evidence for themselves.

    Args:
        reader: Front of a model with the knowledge graph.
        view: The case as the reader read it.
        task: Name of a task of kind `ranking`.
        candidates: Ids of concepts.
    Raises:
        UsageError: `model.mismatch` without a graph or such a task, `kg.version` for candidates that are not in the
            graph.
    """
    graph = reader.graph
    spec = next((item for item in reader.model.labels.tasks if item.name == task and item.kind == "ranking"), None)
    if graph is None or spec is None:
        raise UsageError(
            f"Expected a model with the knowledge graph and a ranking task {task!r} (got none).", code="model.mismatch"
        )
    unknown = [concept for concept in candidates if concept not in graph]
    if unknown:
        raise UsageError(
            f"Expected concepts of the knowledge graph ({len(unknown)} are not in it, the first {unknown[0][:40]!r}).",
            code="kg.version",
        )
    asked = _as_task(candidates)
    starts = seeds(view.evidence, reader.answers | answer_concepts([asked], graph), graph)
    walk = walk_scores(graph.personalised_pagerank(starts), graph, asked) if starts else None
    model, inputs = reader.model, collate([view.features], reader)
    device = inputs.present.device
    decision = cast(TaskDecision, model.decisions[task])
    names = reader.name_vectors([graph.name(graph.index(concept)) for concept in candidates])
    match = None
    if decision.match is not None and names is not None and inputs.text is not None and inputs.text_mask is not None:
        match = decision.match(Tokens(inputs.text, inputs.text_mask), names.to(device))
    sources = None
    if reader.config.graph is not None and reader.config.graph.sources and view.case.report is not None:
        said = SourceMatch(graph, [(graph.name(graph.index(concept)), concept) for concept in candidates])
        sources = torch.from_numpy(said.scores(view.case.report.text))[None].to(device)
    scores, _ = decision.rank(
        model.fusion(model.tokens(inputs), inputs.present),
        inputs.present,
        torch.from_numpy(concept_vectors(graph, asked)).to(device),
        None if walk is None else torch.from_numpy(walk)[None].to(device),
        match,
        sources,
    )
    order = scores[0].argsort(descending=True, stable=True).tolist()
    return tuple(
        RankedConcept(candidates[row], graph.name(graph.index(candidates[row])), float(scores[0, row])) for row in order
    )


def _as_task(candidates: Sequence[str]) -> TaskSpec:
    classes = tuple(ClassSpec(name=concept, title=concept, concept=concept) for concept in candidates)
    return TaskSpec(name="candidates", title="Candidates", kind="ranking", classes=classes)
