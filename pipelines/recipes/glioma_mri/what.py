"""Cross-validate and fit the second step of glioma-mri on the trunks that `where` has left."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kg import KnowledgeGraph
from medmm.config import ModelConfig
from medmm.encoders.volume import VolumeSummary
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from medmm.model import MultimodalModel
from medmm.similar import TrainingCases, embed_training_cases
from medmm.types import Case, Record
from pipelines.recipes.glioma_mri.data import N_FOLDS, Patient, fold_of_patients, read_patients, read_volumes
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.where import EVERYONE
from pipelines.recipes.glioma_mri.where import SETTINGS as WHERE_SETTINGS
from pipelines.training.what import UNKNOWN, WhatSettings, fit_locations, predict_logits, train_what

logger = logging.getLogger(__name__)

SETTINGS = WhatSettings(epochs=40, learning_rate=3e-3, weight_decay=0.3)
SLICE_FEATURES = WHERE_SETTINGS.widths[4] + WHERE_SETTINGS.widths[2]
# Which modalities an ablation leaves in; the full model is answered without what is not listed.
ABLATIONS: dict[str, tuple[bool, bool, bool, bool]] = {
    "all": (True, True, True, True),
    "without record": (True, True, False, True),
    "without graph": (True, True, True, False),
    "record only": (False, True, True, False),
    "volume only": (True, True, False, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """Out-of-fold results of N patients: `dice` (N,), `logits` by variant and task (N, L), `targets` by task (N,)."""

    patients: Sequence[Patient]
    dice: np.ndarray
    targets: dict[str, np.ndarray]
    logits: dict[str, dict[str, np.ndarray]]
    found: np.ndarray
    outlier: np.ndarray


def targets_of(patients: Sequence[Patient]) -> dict[str, np.ndarray]:
    """Return class indices (N,) by task, -1 where the table has none.

    The side is taken from the reference mask, because two labels of the table contradict it (CS_6188, HT_8106).
    """
    columns: dict[str, list[str | None]] = {
        "side": [*map(side_of_mask, patients)],
        "lobe": [patient.lobe for patient in patients],
        "grade": [patient.grade for patient in patients],
        "histology": [patient.histology for patient in patients],
    }
    names = {task.name: [label.name for label in task.classes] for task in LABELS.tasks}
    return {
        task: np.array([names[task].index(value) if value in names[task] else UNKNOWN for value in values])
        for task, values in columns.items()
    }


def read_case(patient: Patient) -> Case:
    """Return a patient as a diagnosis gets it."""
    volumes, _ = read_volumes(patient)
    values: dict[str, float | str] = {}
    if patient.age is not None:
        values["age_years"] = patient.age
    if patient.sex is not None:
        values["sex"] = patient.sex[0].upper()  # as DICOM has it
    return Case(case_id=patient.patient, volumes=volumes, record=Record(values=values))


def build_reader(config: ModelConfig, graph: KnowledgeGraph | None, trunk_file: Path) -> CaseReader:
    """Return a fresh model with a trained trunk, behind its frozen front."""
    model = MultimodalModel(config, LABELS)
    model.trunk.load_state_dict(load_file(trunk_file))
    return CaseReader(model.eval(), None, graph)


def fit(
    reader: CaseReader, views: Sequence[CaseView], targets: dict[str, np.ndarray], settings: WhatSettings
) -> list[CaseView]:
    """Fit location heads, let the graph see the places found, and train the rest on the given cases."""
    fit_locations(reader.model, [view.features for view in views], targets)
    consulted = [reader.consult_graph(view) for view in views]
    train_what(reader, [view.features for view in consulted], targets, settings)
    return consulted


def cross_validate(data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS) -> CrossValidation:
    """Return out-of-fold answers for every patient, by variant, from the trunks in `work`.

    Variants: those of `ABLATIONS` (one model, answered without a modality), `trained without graph`, and
    `logistic regression` (on the lesion descriptor alone, the simple baseline).
    """
    patients = read_patients(data)
    fold, targets = fold_of_patients(patients), targets_of(patients)
    cases = [read_case(patient) for patient in patients]
    empty = {task.name: np.zeros((len(patients), len(task.classes))) for task in LABELS.tasks}
    variants = (*ABLATIONS, "trained without graph", "logistic regression")
    logits = {name: {task: values.copy() for task, values in empty.items()} for name in variants}
    found, outlier = np.zeros(len(patients), bool), np.zeros(len(patients), bool)
    for index in range(N_FOLDS):
        trunk_file = work / f"trunk-{index}.safetensors"
        reader = build_reader(build_config(graph), graph, trunk_file)
        views = [without_pixels(reader.read(case)) for case in cases]
        train, test = np.flatnonzero(fold != index), np.flatnonzero(fold == index)
        seen = [views[row] for row in train]
        known = {name: values[train] for name, values in targets.items()}
        fit(reader, seen, known, settings)
        unseen = [reader.consult_graph(views[row]).features for row in test]
        answers = {name: predict_logits(reader, unseen, kept) for name, kept in ABLATIONS.items()}
        plain = build_reader(build_config(graph, "none"), None, trunk_file)
        without_graph = [_without_graph(view) for view in seen]
        fit(plain, without_graph, known, settings)
        answers["trained without graph"] = predict_logits(plain, [_without_graph(views[row]).features for row in test])
        answers["logistic regression"] = _baseline([view.features for view in seen], known, unseen)
        for name, by_task in answers.items():
            for task, values in by_task.items():
                logits[name][task][test] = values
        for row, features in zip(test, unseen, strict=True):
            summary = _summary(features)
            found[row] = bool(summary.found[0])
            outlier[row] = float(reader.model.ood(summary.lesion)[0]) > float(reader.model.ood.threshold)
        logger.info("fold %d done", index)
    return CrossValidation(
        patients=patients, dice=_read_dice(work, patients), targets=targets, logits=logits, found=found, outlier=outlier
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """A model, and what it makes of the cases that it was fitted on."""

    model: MultimodalModel
    training_cases: TrainingCases | None


def fit_everyone(data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS) -> FittedModel:
    """Return the model fitted on all patients, from the trunk that left nobody out."""
    patients = read_patients(data)
    reader = build_reader(build_config(graph), graph, work / f"trunk-{EVERYONE}.safetensors")
    views = [without_pixels(reader.read(read_case(patient))) for patient in patients]
    targets = targets_of(patients)
    consulted = fit(reader, views, targets, settings)
    known = [
        {
            task.name: task.classes[int(targets[task.name][row])].name
            for task in LABELS.tasks
            if targets[task.name][row] != UNKNOWN
        }
        for row in range(len(patients))
    ]
    embedded = embed_training_cases(reader, [view.features for view in consulted], known)
    return FittedModel(model=reader.model, training_cases=embedded)


def without_pixels(view: CaseView) -> CaseView:
    """Keep what the graph needs; the trunk's features of 78 patients would fill memory."""
    seen = None if view.seen is None else replace(view.seen, features=view.seen.features[..., :0, :0].clone())
    return replace(view, prepared=None, seen=seen, case=replace(view.case, volumes={}))


def _without_graph(view: CaseView) -> CaseView:
    return replace(view, evidence=(), features=replace(view.features, subgraph=None, walk={}))


def _summary(features: CaseFeatures) -> VolumeSummary:
    if features.summary is None:
        raise ValueError("Expected every patient of this set to have a sequence.")
    return features.summary


def _baseline(
    seen: Sequence[CaseFeatures], targets: dict[str, np.ndarray], unseen: Sequence[CaseFeatures]
) -> dict[str, np.ndarray]:
    """Log-probabilities of a logistic regression on position, size, intensity and contrast of the lesion."""
    answers = {}
    n_features = SLICE_FEATURES
    train = np.concatenate([_summary(item).lesion[:, n_features:].numpy() for item in seen])
    test = np.concatenate([_summary(item).lesion[:, n_features:].numpy() for item in unseen])
    for task in LABELS.fusion_tasks():
        known = targets[task.name] != UNKNOWN
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        fitted.fit(train[known], targets[task.name][known])
        answers[task.name] = fitted.predict_log_proba(test)
    return answers


def side_of_mask(patient: Patient) -> str:
    _, mask = read_volumes(patient)
    profile = mask.sum(axis=(1, 2)).astype(float)
    centre = float((profile * np.arange(len(profile))).sum() / profile.sum())
    return "right" if centre > (len(profile) - 1) / 2 else "left"


def _read_dice(work: Path, patients: Sequence[Patient]) -> np.ndarray:
    scores: dict[str, float] = {}
    for index in range(N_FOLDS):
        scores.update(json.loads((work / f"dice-{index}.json").read_text(encoding="utf-8")))
    return np.array([scores[patient.patient] for patient in patients])
