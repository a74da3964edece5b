"""A case with a part taken away, read again: sentences of its report, concepts of its evidence, edges of the graph."""

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.config import TaskSpec
from medmm.evidence import seeds, walk_scores
from medmm.heads import probabilities
from medmm.inputs import CaseFeatures, CaseReader, CaseView, collate
from medmm.types import Report


def chances_of(reader: CaseReader, features: CaseFeatures, task: TaskSpec) -> torch.Tensor:
    """Calibrated probabilities (L,) of a task."""
    with torch.no_grad():
        logits = reader.model(collate([features], reader)).logits[task.name]
    return probabilities(logits, task.kind, task.calibration.temperature)[0].double().cpu()


def without_sentences(reader: CaseReader, view: CaseView, spans: Iterable[tuple[int, int]]) -> CaseFeatures:
    """Features of the case with parts of its report cut out: encoded, linked and walked again; the volume stays."""
    report = view.case.report
    if report is None:
        return view.features
    text = report.text
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + text[end:]
    shorter = Report(text=text) if text.strip() else None
    encoder, states = reader.text_encoder, None
    if shorter is not None and encoder is not None:
        with torch.no_grad():
            encoded = encoder.encode(shorter.text)
            states = encoder.sentences(encoder.states(encoded), encoded)
    changed = replace(
        view,
        case=replace(view.case, report=shorter),
        mentions=reader.mentions(shorter),
        features=replace(view.features, text=states, subgraph=None, walk={}),
    )
    return reader.consult_graph(changed).features


def without_concepts(reader: CaseReader, view: CaseView, gone: Collection[str]) -> CaseFeatures:
    """Features of the case as if some concepts had never been evidence; the text that the encoder reads stays."""
    if reader.graph is None:
        return view.features
    starts = seeds(view.evidence, reader.answers, reader.graph)
    subgraph, walk = reader.walk({name: weight for name, weight in starts.items() if name not in gone})
    return replace(view.features, subgraph=subgraph, walk=walk)


def without_relations(reader: CaseReader, view: CaseView, pairs: Collection[frozenset[int]]) -> CaseFeatures:
    """Features of the case as if the graph held no relation between some pairs of concepts (their positions)."""
    graph = reader.graph
    if graph is None or reader.config.graph is None:
        return view.features
    cut = _cut(graph, pairs)
    starts = seeds(view.evidence, reader.answers, graph)
    scores = cut.personalised_pagerank(starts)
    whole = cut.subgraph(starts, reader.config.graph.size)
    ends = whole.concepts[whole.edges]  # (2, E)
    kept = np.array([frozenset(pair) not in pairs for pair in ends.T.tolist()], dtype=bool)
    subgraph = replace(
        whole,
        edges=whole.edges[:, kept],
        relations=whole.relations[kept],
        rows=whole.rows[kept],
        weights=whole.weights[kept],
    )
    walk = {task.name: walk_scores(scores, graph, task) for task in reader.model.labels.fusion_tasks()}
    return replace(view.features, subgraph=subgraph, walk=walk)


def _cut(graph: KnowledgeGraph, pairs: Collection[frozenset[int]]) -> KnowledgeGraph:
    """The graph for walking only, with no step between the pairs; what a step could not do goes to the others."""
    data = graph.arrays["walk_data"].copy()
    indices, indptr = graph.arrays["walk_indices"], graph.arrays["walk_indptr"]
    lost: dict[int, float] = {}
    for one, other in (sorted(pair) for pair in pairs if len(pair) == 2):
        for row, column in ((one, other), (other, one)):
            at = indptr[row] + np.flatnonzero(indices[indptr[row] : indptr[row + 1]] == column)
            lost[column] = lost.get(column, 0.0) + float(data[at].sum())
            data[at] = 0
    for column, share in lost.items():
        if 0 < share < 1:
            data[indices == column] /= 1 - share
    return KnowledgeGraph(arrays={**graph.arrays, "walk_data": data}, header=graph.header, content_hash=graph.hash)
