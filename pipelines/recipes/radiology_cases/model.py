"""The model: experts, and how much each of their opinions counts in each setting. Fitting, and answering all tasks."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.recipes.radiology_cases.answers import SETTINGS, T2_SETTINGS, T3_SETTINGS
from pipelines.recipes.radiology_cases.cases import Diagnosis
from pipelines.recipes.radiology_cases.experts import Experts, fit_experts
from pipelines.recipes.radiology_cases.features import Features
from pipelines.recipes.radiology_cases.labels import Labels
from pipelines.recipes.radiology_cases.matching import Matching, fit_matching, match
from pipelines.recipes.radiology_cases.opinions import (
    Controls,
    Scores,
    case_opinions,
    diagnosis_opinions,
    picture_chances,
)
from pipelines.recipes.radiology_cases.pool import (
    fit_weights,
    folds,
    pooled,
    to_probabilities,
)

logger = logging.getLogger(__name__)

N_FOLDS = 3
TASK_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "location": SETTINGS,
    "superclass": T2_SETTINGS,
}
_TOWARDS, _STRENGTH = {"case": 0.4, "diagnosis": 0.3}, {"case": 0.05, "diagnosis": 0.01}
Weights = Mapping[str, Mapping[str, float]]
NOTHING_LEFT_OUT = Controls()


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiologyModel:
    """Experts and, by task and setting (`location/he_images`, `diagnosis/hef`), the weight of each view."""

    experts: Experts
    matching: Matching
    weights: Weights
    diagnoses: tuple[Diagnosis, ...]
    names: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Experts, and the cases (N,) that they were not fitted on."""

    experts: Experts
    rows: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Experts fitted without each fold of the cases, and on all. What is left out for an ablation changes neither."""

    apart: tuple[HeldOut, ...]
    all: Experts
    matching: Matching


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers to all tasks: probabilities of pictures (P, L) and cases (N, L), scores of diagnoses (N, n), of pairs."""

    pictures: Mapping[str, np.ndarray]
    cases: Mapping[str, np.ndarray]
    diagnoses: Mapping[str, np.ndarray]
    pairs: Mapping[str, np.ndarray]


def fit_parts(
    features: Features,
    labels: Labels,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
) -> Parts:
    """Return experts fitted N_FOLDS times without a part of the labelled cases, and once on all of them."""
    known = np.flatnonzero(labels.known)
    n_folds = min(N_FOLDS, len(known))
    fold = np.full(len(features.cases), -1)
    fold[known] = folds(len(known), n_folds, seed=0)
    apart = []
    for index in range(n_folds):
        logger.info("Fitting experts without part %d of %d.", index + 1, n_folds)
        others = labels.only(fold != index, features.owner)
        apart.append(
            HeldOut(
                experts=fit_experts(features, others, diagnoses, names),
                rows=fold == index,
            )
        )
    logger.info("Fitting experts on all %d cases.", len(known))
    experts = fit_experts(features, labels, diagnoses, names)
    return Parts(
        apart=tuple(apart),
        all=experts,
        matching=fit_matching(features, labels, experts),
    )


def weigh(
    parts: Parts,
    features: Features,
    labels: Labels,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
    controls: Controls = NOTHING_LEFT_OUT,
) -> RadiologyModel:
    """Return a model whose weights are learned from what experts say about cases that they were not fitted on.

    Source: stacked generalisation, Wolpert, Neural Networks 1992.
    """
    weights = _fit_weights(parts.apart, features, labels, names, controls)
    return RadiologyModel(
        experts=parts.all,
        matching=parts.matching,
        weights=weights,
        diagnoses=tuple(diagnoses),
        names=names,
    )


def fit_model(
    features: Features,
    labels: Labels,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
) -> RadiologyModel:
    """Return a model fitted on the cases that have labels."""
    return weigh(
        fit_parts(features, labels, diagnoses, names),
        features,
        labels,
        diagnoses,
        names,
    )


def answer(model: RadiologyModel, features: Features, controls: Controls = NOTHING_LEFT_OUT) -> Answers:
    """Return the answers to all tasks and settings; labels are not looked at."""
    experts = model.experts
    chances = picture_chances(experts, features)
    cases: dict[str, np.ndarray] = {}
    for task, settings in TASK_SETTINGS.items():
        for setting in settings:
            views = case_opinions(experts, features, chances, task, setting, controls)
            cases[f"{task}/{setting}"] = _pool_case(views, model.weights[f"{task}/{setting}"], features, task, experts)
    diagnoses: dict[str, np.ndarray] = {}
    for setting in T3_SETTINGS:
        known = {task: cases[f"{task}/{setting}"] for task in TASK_SETTINGS}
        views = diagnosis_opinions(experts, features, model.names, known, setting, controls)
        diagnoses[setting] = pooled(views, model.weights[f"diagnosis/{setting}"])
    return Answers(
        pictures=chances,
        cases=cases,
        diagnoses=diagnoses,
        pairs=match(model.matching, experts, features, chances),
    )


def _fit_weights(
    parts: Sequence[HeldOut],
    features: Features,
    labels: Labels,
    names: np.ndarray,
    controls: Controls,
) -> Weights:
    chances = [picture_chances(part.experts, features) for part in parts]
    weights: dict[str, Mapping[str, float]] = {}
    answers: dict[str, np.ndarray] = {}
    for task, settings in TASK_SETTINGS.items():
        for setting in settings:
            key = f"{task}/{setting}"
            views = _apart(
                parts,
                [
                    case_opinions(part.experts, features, seen, task, setting, controls)
                    for part, seen in zip(parts, chances, strict=True)
                ],
            )
            if views:
                weights[key] = fit_weights(
                    views,
                    labels.case[task],
                    towards=_TOWARDS["case"],
                    strength=_STRENGTH["case"],
                )
            else:
                weights[key] = {}
            answers[key] = _pool_case(views, weights[key], features, task, parts[0].experts)
    for setting in T3_SETTINGS:
        known = {task: answers[f"{task}/{setting}"] for task in TASK_SETTINGS}
        views = _apart(
            parts,
            [diagnosis_opinions(part.experts, features, names, known, setting, controls) for part in parts],
        )
        weights[f"diagnosis/{setting}"] = fit_weights(
            views,
            labels.diagnosis,
            towards=_TOWARDS["diagnosis"],
            strength=_STRENGTH["diagnosis"],
        )
    return weights


def _apart(parts: Sequence[HeldOut], opinions: Sequence[Scores]) -> Scores:
    """Each case's opinion from the experts that were not fitted on it."""
    joined: Scores = {}
    for part, views in zip(parts, opinions, strict=True):
        for name, view in views.items():
            joined.setdefault(name, np.zeros_like(view))[part.rows] = view[part.rows]
    return joined


def _pool_case(
    views: Scores,
    weights: Mapping[str, float],
    features: Features,
    task: str,
    experts: Experts,
) -> np.ndarray:
    """Probabilities (N, L); the same for every class where there is no view at all."""
    if not views:
        return np.full(
            (len(features.cases), experts.tables[task].shape[1]),
            1 / experts.tables[task].shape[1],
        )
    return to_probabilities(pooled(views, weights))
