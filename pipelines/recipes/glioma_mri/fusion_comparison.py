"""Every kind of fusion on identical folds of the LGG patients, against the best single modality and other graphs.

What is seen of the volumes comes from the trunks of `where`, each of which left its fold out.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.config import ModelConfig
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from pipelines.recipes.glioma_mri.data import N_FOLDS, fold_of_patients, read_patients
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.what import SETTINGS, build_reader, read_views, targets_of
from pipelines.recipes.glioma_mri.where import trunk_file
from pipelines.statistics import auroc
from pipelines.training.fusion_comparison import Comparison, Learned, Setting, compare, only
from pipelines.training.what import WhatSettings, fit_locations, train_what

logger = logging.getLogger(__name__)
USED = ("volume", "record", "graph")  # the patients have no reports


def compare_fusions(data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS) -> Comparison:
    """Return every variant's answers to every patient by a model that did not learn from that patient."""
    patients = read_patients(data)
    targets = targets_of(patients)
    setting = Setting(
        labels=LABELS,
        config=lambda known: build_config(graph, "none" if known is None else "real"),
        graph=graph,
        used=USED,
        targets=targets,
        metrics={task.name: {"auroc": auroc} for task in LABELS.fusion_tasks()},
    )

    def folds() -> Iterator[_Fold]:
        fold = fold_of_patients(patients)
        for index in range(N_FOLDS):
            views = read_views(work, str(index), patients, graph)
            logger.info("fold %d: %d patients seen", index, len(views))
            yield _Fold(trunk_file(work, str(index)), views, targets, fold != index, settings)

    return compare(setting, folds())


@dataclass(slots=True)
class _Fold:
    """One fold: what was seen of all patients, and which of them (N,) may be learned from."""

    trunk: Path
    views: Sequence[CaseView]
    targets: dict[str, np.ndarray]
    is_training: np.ndarray
    settings: WhatSettings
    consulted: dict[str, list[CaseFeatures]] = field(default_factory=dict)

    def learn(self, config: ModelConfig, graph: KnowledgeGraph | None, only_modality: str | None = None) -> Learned:
        """Train a model of this configuration from the same seed, on one modality alone if asked."""
        torch.manual_seed(self.settings.seed)
        reader = build_reader(config, graph, self.trunk)
        rows = np.flatnonzero(self.is_training)
        known = {name: values[rows] for name, values in self.targets.items()}
        features = self._consult(reader, known)
        if only_modality is not None:
            features = [only(item, only_modality) for item in features]
        train_what(reader, [features[int(row)] for row in rows], known, self.settings)
        return Learned(reader, features)

    def _consult(self, reader: CaseReader, known: dict[str, np.ndarray]) -> list[CaseFeatures]:
        """What the graph adds, once for each graph: places come from the training patients of this fold."""
        key = "" if reader.graph is None else reader.graph.hash
        if key not in self.consulted:
            plain = [replace(view, evidence=(), features=_stripped(view.features)) for view in self.views]
            fit_locations(reader.model, [plain[int(row)].features for row in np.flatnonzero(self.is_training)], known)
            self.consulted[key] = [reader.consult_graph(view).features for view in plain]
        return self.consulted[key]


def _stripped(features: CaseFeatures) -> CaseFeatures:
    return replace(features, subgraph=None, walk={})
