"""Training of the model of radiology cases: out of fold for its figures and calibration, then on every case."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.checkpoint import save_model
from medmm.config import Labels, ModelConfig
from medmm.heads import probabilities
from medmm.inputs import CaseFeatures
from medmm.similar import embed_training_cases
from pipelines.recipes.radiology_cases.cases import CaseTarget, Diagnosis, read_diagnoses, read_inputs, read_targets
from pipelines.recipes.radiology_cases.labels import labels_of
from pipelines.recipes.radiology_cases.multimodal.card import write_card
from pipelines.recipes.radiology_cases.multimodal.reading import ReadAlready, build_model, read_features, read_names
from pipelines.recipes.radiology_cases.multimodal.spec import (
    DIAGNOSIS,
    LOCATION,
    SETTINGS,
    SUPERCLASS,
    build_config,
    build_labels,
)
from pipelines.recipes.radiology_cases.pool import folds
from pipelines.statistics import (
    Estimate,
    accuracy,
    bootstrap,
    expected_calibration_error,
    macro_f1,
    mean_reciprocal_rank,
    ranks_of,
    recall_at,
)
from pipelines.training.what import UNKNOWN, WhatSettings, calibrate, predict_logits, train_what

logger = logging.getLogger(__name__)
N_FOLDS = 5
Metric = Callable[[np.ndarray, np.ndarray], float]


def recall_at_10(truth: np.ndarray, scores: np.ndarray) -> float:
    """Share of cases whose diagnosis is among the ten first."""
    return recall_at(ranks_of(truth, scores), 10)


def reciprocal_rank(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean of 1/rank of the diagnosis."""
    return mean_reciprocal_rank(ranks_of(truth, scores))


METRICS: Mapping[str, Mapping[str, Metric]] = {
    LOCATION: {"accuracy": accuracy, "macro_f1": macro_f1, "ece": expected_calibration_error},
    SUPERCLASS: {"macro_f1": macro_f1, "accuracy": accuracy, "ece": expected_calibration_error},
    DIAGNOSIS: {"recall_at_10": recall_at_10, "reciprocal_rank": reciprocal_rank},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """N cases ready to be learned from: what the front sees, and class indices (N,) by task, -1 where unknown."""

    labels: Labels
    graph: KnowledgeGraph
    names: Mapping[str, torch.Tensor]
    features: Sequence[CaseFeatures]
    targets: Mapping[str, np.ndarray]


def gather(data: Path, work: Path | None, splits: Sequence[str], graph: KnowledgeGraph) -> Materials:
    """Return the cases of some splits with their labels.

    Raises:
        UsageError: `config.table` for a folder that is not as docs/radiology-cases.md says.
    """
    diagnoses = read_diagnoses(data)
    labels = build_labels(diagnoses, graph)
    features = [
        row for name in splits for row in read_features(read_inputs(data, name), data / "images", labels, graph, work)
    ]
    return Materials(
        labels=labels,
        graph=graph,
        names=read_names(labels),
        features=features,
        targets=targets_of([case for name in splits for case in read_targets(data, name)], diagnoses),
    )


def targets_of(cases: Sequence[CaseTarget], diagnoses: Sequence[Diagnosis]) -> dict[str, np.ndarray]:
    """Return class indices (N,) by task, -1 where unknown."""
    found = labels_of(cases, diagnoses)
    return {LOCATION: found.case["location"], SUPERCLASS: found.case["superclass"], DIAGNOSIS: found.diagnosis}


def learn(
    materials: Materials, rows: np.ndarray, config: ModelConfig, settings: WhatSettings = SETTINGS
) -> ReadAlready:
    """Return a model that learned from some of the cases, from the settings' seed."""
    graph = materials.graph if config.graph is not None else None
    reader = ReadAlready(build_model(config, materials.labels, settings.seed), graph, materials.names)
    seen = {name: values[rows] for name, values in materials.targets.items()}
    train_what(reader, [materials.features[int(row)] for row in rows], seen, settings)
    return reader


def out_of_fold(materials: Materials, settings: WhatSettings = SETTINGS) -> dict[str, np.ndarray]:
    """Return logits (N, L) by task, each case's from a model that never saw it."""
    count = len(materials.features)
    fold = folds(count, N_FOLDS, seed=0)
    logits = {task.name: np.zeros((count, len(task.classes))) for task in materials.labels.tasks}
    for number in range(N_FOLDS):
        reader = learn(materials, np.flatnonzero(fold != number), build_config(materials.graph), settings)
        rows = np.flatnonzero(fold == number)
        for name, values in predict_logits(reader, [materials.features[int(row)] for row in rows]).items():
            logits[name][rows] = values
        logger.info("Fold %d of %d done.", number + 1, N_FOLDS)
    return logits


def train_model(
    data: Path,
    work: Path | None,
    out: Path,
    splits: Sequence[str],
    graph: KnowledgeGraph,
    settings: WhatSettings = SETTINGS,
) -> dict[str, dict[str, Estimate]]:
    """Write a model directory and return its out-of-fold figures, by task and metric.

    Temperature and prediction sets come from the out-of-fold answers, so that no other cases are needed for them.
    """
    materials = gather(data, work, splits, graph)
    logits = out_of_fold(materials, settings)
    calibrated = calibrate(materials.labels, logits, materials.targets)
    figures = measure(calibrated, logits, materials.targets)
    everyone = np.arange(len(materials.features))
    reader = learn(materials, everyone, build_config(graph), settings)
    reader.model.labels = calibrated
    names = {task.name: [label.title for label in task.classes] for task in calibrated.tasks}
    known = [
        {task: names[task][int(values[row])] for task, values in materials.targets.items() if values[row] != UNKNOWN}
        for row in everyone
    ]
    save_model(
        out,
        reader.model,
        metrics={task: {name: one.to_dict() for name, one in table.items()} for task, table in figures.items()},
        card=write_card(figures, calibrated, splits, len(materials.features), graph.hash),
        training_cases=embed_training_cases(reader, materials.features, known),
    )
    return figures


def measure(
    labels: Labels, logits: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Estimate]]:
    """Return every metric of the cases with a label, with intervals over cases."""
    found = {}
    for task in labels.tasks:
        truth = targets[task.name]
        known = truth != UNKNOWN
        chances = probabilities(torch.from_numpy(logits[task.name][known]), task.kind, task.calibration.temperature)
        found[task.name] = {
            name: bootstrap(metric, truth[known], chances.numpy()) for name, metric in METRICS[task.name].items()
        }
    return found
