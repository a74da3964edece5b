"""Controls: the same case answered from fewer modalities, without the graph, and with a graph that means nothing."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from kg import KnowledgeGraph
from kg.controls import shuffled_graph
from medmm.config import MODALITIES
from medmm.diagnose import Diagnoser
from medmm.inputs import CaseFeatures, CaseReader, collate
from medmm.types import Case

Logits = Mapping[str, np.ndarray]
GRAPH_NONE, GRAPH_SHUFFLED = "graph: none", "graph: shuffled"
_GRAPH = MODALITIES.index("graph")


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Which controls to answer every case under; `shuffled` is the degree-preserving shuffled graph, or None."""

    subsets: tuple[frozenset[str], ...] = ()
    shuffled: KnowledgeGraph | None = None
    has_graph: bool = False


def plan_controls(diagnoser: Diagnoser, *, seed: int = 0) -> Controls:
    """Return every non-empty subset of the model's modalities, and the graph controls where it has a graph."""
    known = diagnoser.model.config.modalities
    subsets = [frozenset(names) for size in range(1, len(known) + 1) for names in itertools.combinations(known, size)]
    graph = diagnoser.reader.graph if "graph" in known else None
    return Controls(
        subsets=tuple(subsets) if len(known) > 1 else (),
        shuffled=shuffled_graph(graph, seed=seed) if graph is not None else None,
        has_graph=graph is not None,
    )


def subset_name(names: frozenset[str]) -> str:
    """`volume+record`: how a subset is called, in the order of the modalities."""
    return "+".join(name for name in MODALITIES if name in names)


@torch.no_grad()
def answer_variants(diagnoser: Diagnoser, case: Case, controls: Controls) -> dict[str, Logits]:
    """Return uncalibrated logits (L,) of the fusion tasks by control, without subsets of which the case has nothing.

    All subsets go through the model as one batch. Location tasks depend on the volume alone and are not repeated.
    """
    view = diagnoser.view(case)
    tasks = [task.name for task in diagnoser.model.labels.fusion_tasks()]
    if not tasks:
        return {}
    present = view.features.present
    masks: dict[str, list[bool]] = {}
    for subset in controls.subsets:
        mask = [has and name in subset for name, has in zip(MODALITIES, present, strict=True)]
        if any(mask):
            masks[subset_name(subset)] = mask
    if controls.has_graph and any(present[:_GRAPH]):
        masks[GRAPH_NONE] = [*present[:_GRAPH], False]
    answers = _answer(diagnoser.reader, [view.features] * len(masks), list(masks.values()), tasks) if masks else []
    found = dict(zip(masks, answers, strict=True))
    if controls.shuffled is not None:
        reader = CaseReader(diagnoser.model, diagnoser.reader.text_encoder, controls.shuffled)
        features = reader.consult_graph(view).features
        found[GRAPH_SHUFFLED] = _answer(reader, [features], [list(features.present)], tasks)[0]
    return found


def _answer(
    reader: CaseReader, features: list[CaseFeatures], masks: list[list[bool]], tasks: list[str]
) -> list[Logits]:
    inputs = collate(features, reader)
    allowed = torch.tensor(masks, device=inputs.present.device)
    output = reader.model(inputs.with_present(inputs.present & allowed))
    return [{name: output.logits[name][row].double().cpu().numpy() for name in tasks} for row in range(len(masks))]
