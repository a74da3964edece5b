"""Every kind of fusion, each modality alone and other graphs on five identical folds of the radiology cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kg import KnowledgeGraph
from kg.controls import shuffled_graph
from medmm.config import ModelConfig
from medmm.inputs import CaseFeatures
from pipelines.recipes.radiology_cases.multimodal.fitting import (
    METRICS,
    N_FOLDS,
    Materials,
    gather,
    learn,
)
from pipelines.recipes.radiology_cases.multimodal.spec import SETTINGS, build_config
from pipelines.recipes.radiology_cases.pool import folds
from pipelines.training.fusion_comparison import Comparison, Learned, Setting, compare, only
from pipelines.training.what import WhatSettings

USED = ("volume", "text", "record", "graph")


def compare_fusions(
    data: Path, work: Path | None, splits: Sequence[str], graph: KnowledgeGraph, settings: WhatSettings = SETTINGS
) -> Comparison:
    """Return every variant's answers to every case by a model that did not learn from that case."""
    real = gather(data, work, splits, graph)
    other = shuffled_graph(graph, seed=0)
    by_graph = {graph.hash: real, other.hash: gather(data, work, splits, other)}
    fold = folds(len(real.features), N_FOLDS, seed=0)

    def parts() -> Iterator[_Fold]:
        for number in range(N_FOLDS):
            yield _Fold(fold != number, by_graph, settings)

    setting = Setting(
        labels=real.labels,
        config=build_config,
        graph=graph,
        used=USED,
        targets=real.targets,
        metrics=METRICS,
    )
    return compare(setting, parts())


@dataclass(slots=True)
class _Fold:
    """One fold: which cases (N,) may be learned from, and the cases as they look with each graph."""

    is_training: np.ndarray
    by_graph: dict[str, Materials]
    settings: WhatSettings

    def learn(self, config: ModelConfig, graph: KnowledgeGraph | None, only_modality: str | None = None) -> Learned:
        """Train a model of this configuration from the same seed, on one modality alone if asked."""
        materials = next(iter(self.by_graph.values())) if graph is None else self.by_graph[graph.hash]
        features: Sequence[CaseFeatures] = materials.features
        if only_modality is not None:
            features = [only(item, only_modality) for item in features]
        own = replace(materials, features=features)
        return Learned(learn(own, np.flatnonzero(self.is_training), config, self.settings), features)
