"""Every kind of fusion on identical folds of the LGG patients, against the best single modality and other graphs.

What is seen of the volumes comes from trunks that left the fold out, where WORK has them, or else from the shipped
trunk. The shipped trunk was trained to mark the tumours of all these patients: where the tumour is, is then known too
well (never its grade or histology), for all variants alike, so comparisons stand and absolute figures are too high.
"""

import copy
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from kg import KnowledgeGraph
from kg.controls import shuffled_graph
from medmm.checkpoint import WEIGHTS
from medmm.config import MODALITIES, ModelConfig
from medmm.diagnose import SHIPPED
from medmm.fusion.kinds import FUSIONS
from medmm.heads import probabilities
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from medmm.model import MultimodalModel
from pipelines.recipes.glioma_mri.data import N_FOLDS, fold_of_patients, read_patients
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.what import SETTINGS, read_case, targets_of, without_pixels
from pipelines.statistics import N_BOOTSTRAP, auroc, bootstrap, paired_difference
from pipelines.training.what import UNKNOWN, WhatSettings, fit_locations, predict_logits, train_what

logger = logging.getLogger(__name__)
USED = ("volume", "record", "graph")  # the patients have no reports
SINGLE = tuple(f"{name} alone" for name in USED)
GRAPHS = ("hybrid, no graph", "hybrid, shuffled graph")
Chances = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Out-of-fold probabilities (N, L) by variant and task, by kind and what is available, and what is true."""

    truth: Chances
    chances: dict[str, Chances]
    available: dict[str, dict[str, Chances]] = field(default_factory=dict)
    is_out_of_fold: bool = False


def compare_fusions(
    data: Path, work: Path | None, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS
) -> Comparison:
    """Return every variant's answers to every patient by a model that did not learn from that patient."""
    patients = read_patients(data)
    fold, targets = fold_of_patients(patients), targets_of(patients)
    cases = [read_case(patient) for patient in patients]
    has_trunks = work is not None and all((work / f"trunk-{index}.safetensors").is_file() for index in range(N_FOLDS))
    empty = {task.name: np.zeros((len(patients), len(task.classes))) for task in LABELS.fusion_tasks()}
    result = Comparison(
        truth={name: targets[name] for name in empty},
        chances={name: copy.deepcopy(empty) for name in (*FUSIONS, *SINGLE, *GRAPHS)},
        available={name: {_kept_name(kept): copy.deepcopy(empty) for kept in _subsets()} for name in FUSIONS},
        is_out_of_fold=has_trunks,
    )
    shuffled = shuffled_graph(graph, seed=0)
    views: list[CaseView] = []
    for index in range(N_FOLDS):
        trunk = _trunk(work, index) if has_trunks and work is not None else _shipped_trunk()
        if has_trunks or not views:
            reader = _reader(build_config(graph), graph, trunk)
            views = [without_pixels(reader.read(case)) for case in cases]
            logger.info("read %d patients", len(views))
        folds = _Fold(trunk, views, targets, fold != index, settings)
        for name in FUSIONS:
            learned = folds.learn(build_config(graph).model_copy(update={"fusion": name}), graph)
            _fill(result.chances[name], folds, learned)
            for kept in _subsets():
                _fill(result.available[name][_kept_name(kept)], folds, learned, kept)
        for name, modality in zip(SINGLE, USED, strict=True):
            _fill(result.chances[name], folds, folds.learn(build_config(graph), graph, only=modality))
        _fill(result.chances[GRAPHS[0]], folds, folds.learn(build_config(graph, "none"), None))
        _fill(result.chances[GRAPHS[1]], folds, folds.learn(build_config(graph), shuffled))
        logger.info("fold %d done", index)
    return result


@dataclass(frozen=True, slots=True)
class _Learned:
    reader: CaseReader
    features: Sequence[CaseFeatures]


@dataclass(frozen=True, slots=True)
class _Fold:
    """One fold: what was seen of all patients, and which of them (N,) may be learned from."""

    trunk: dict[str, torch.Tensor]
    views: Sequence[CaseView]
    targets: dict[str, np.ndarray]
    is_training: np.ndarray
    settings: WhatSettings
    consulted: dict[str, list[CaseFeatures]] = field(default_factory=dict)

    def learn(self, config: ModelConfig, graph: KnowledgeGraph | None, only: str | None = None) -> _Learned:
        """Train a model of this configuration from the same seed, on one modality alone if asked."""
        torch.manual_seed(self.settings.seed)
        reader = _reader(config, graph, self.trunk)
        rows = np.flatnonzero(self.is_training)
        known = {name: values[rows] for name, values in self.targets.items()}
        features = self._consult(reader, known)
        if only is not None:
            features = [_only(item, only) for item in features]
        train_what(reader, [features[int(row)] for row in rows], known, self.settings)
        return _Learned(reader, features)

    def _consult(self, reader: CaseReader, known: dict[str, np.ndarray]) -> list[CaseFeatures]:
        """What the graph adds, once for each graph: places come from the training patients of this fold."""
        key = "" if reader.graph is None else reader.graph.hash
        if key not in self.consulted:
            plain = [replace(view, evidence=(), features=_stripped(view.features)) for view in self.views]
            fit_locations(reader.model, [plain[int(row)].features for row in np.flatnonzero(self.is_training)], known)
            self.consulted[key] = [reader.consult_graph(view).features for view in plain]
        return self.consulted[key]


def tables(result: Comparison, n_resamples: int = N_BOOTSTRAP) -> dict[str, object]:
    """Return the figures: AUROC by variant, differences from the best single modality, AUROC by what is available."""
    found: dict[str, object] = {"trunks": "out of fold" if result.is_out_of_fold else "shipped: saw these patients"}
    for task, truth in result.truth.items():
        known = truth != UNKNOWN
        values = {name: chances[task][known] for name, chances in result.chances.items()}
        best = max(SINGLE, key=lambda name: auroc(truth[known], values[name]))
        reference = dict.fromkeys(FUSIONS, best) | dict.fromkeys(GRAPHS, "hybrid")
        found[task] = {
            "n": int(known.sum()),
            "auroc": {
                name: bootstrap(auroc, truth[known], chances, n_resamples=n_resamples).to_dict()
                for name, chances in values.items()
            },
            "difference": {
                name: {"from": other}
                | asdict(paired_difference(auroc, truth[known], values[name], values[other], n_resamples=n_resamples))
                for name, other in reference.items()
            },
            "available": {
                name: {kept: auroc(truth[known], chances[task][known]) for kept, chances in by_kept.items()}
                for name, by_kept in result.available.items()
            },
        }
    return found


def write_comparison(result: Comparison, out: Path, n_resamples: int = N_BOOTSTRAP) -> None:
    """Write the figures as JSON, and every probability, so that they can be counted again."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "fusion_comparison.json").write_text(
        json.dumps(tables(result, n_resamples), indent=1) + "\n", encoding="utf-8"
    )
    arrays: dict[str, Any] = {f"truth/{task}": values for task, values in result.truth.items()}
    arrays |= {f"{name}/{task}": values for name, table in result.chances.items() for task, values in table.items()}
    np.savez_compressed(out / "probabilities.npz", **arrays)


def _fill(table: Chances, fold: _Fold, learned: _Learned, kept: tuple[bool, ...] = (True,) * len(MODALITIES)) -> None:
    rows = np.flatnonzero(~fold.is_training)
    logits = predict_logits(learned.reader, [learned.features[int(row)] for row in rows], kept)
    for task in LABELS.fusion_tasks():
        table[task.name][rows] = probabilities(torch.from_numpy(logits[task.name]), task.kind).numpy()


def _reader(config: ModelConfig, graph: KnowledgeGraph | None, trunk: dict[str, torch.Tensor]) -> CaseReader:
    model = MultimodalModel(config, LABELS)
    model.trunk.load_state_dict(trunk)
    return CaseReader(model.eval(), None, graph)


def _trunk(work: Path, index: int) -> dict[str, torch.Tensor]:
    return load_file(work / f"trunk-{index}.safetensors")


def _shipped_trunk() -> dict[str, torch.Tensor]:
    weights = load_file(SHIPPED / "glioma-mri" / WEIGHTS)
    return {name.removeprefix("trunk."): value for name, value in weights.items() if name.startswith("trunk.")}


def _stripped(features: CaseFeatures) -> CaseFeatures:
    return replace(features, subgraph=None, walk={})


def _only(features: CaseFeatures, modality: str) -> CaseFeatures:
    if modality == "volume":
        return CaseFeatures(summary=features.summary)
    if modality == "record":
        return CaseFeatures(record=features.record)
    return CaseFeatures(subgraph=features.subgraph, walk=features.walk)


def _subsets() -> list[tuple[bool, ...]]:
    """All 2^3 choices of the modalities that these patients have."""
    return [
        tuple(dict(zip(USED, choice, strict=True)).get(name, False) for name in MODALITIES)
        for choice in product((False, True), repeat=len(USED))
    ]


def _kept_name(kept: tuple[bool, ...]) -> str:
    return " + ".join(name for name, is_kept in zip(MODALITIES, kept, strict=True) if is_kept) or "nothing"
