"""Hyperparameter search inside the cases of one fold (nested), with Optuna; the fold's own test cases never enter."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmm.errors import UsageError
from medmm.heads import task_loss
from medmm.inputs import CaseFeatures, CaseReader
from medmm.model import MultimodalModel
from pipelines.training.objectives import Objectives
from pipelines.training.recipe import Recipe
from pipelines.training.what import WhatSettings, predict_logits, train_what

if TYPE_CHECKING:
    import optuna


def search_settings(
    reader: CaseReader,
    features: Sequence[CaseFeatures],
    targets: Mapping[str, np.ndarray],
    patients: np.ndarray,
    settings: WhatSettings,
    recipe: Recipe,
) -> WhatSettings:
    """Return the settings with the lowest cross-entropy over inner folds; as given where nothing is searched.

    Raises:
        UsageError: `config.key` where Optuna is not installed.
    """
    spec = recipe.search
    if spec.trials == 0:
        return settings
    try:
        import optuna
    except ModuleNotFoundError:
        raise UsageError(
            "A search needs Optuna.", code="config.key", remedy="pip install 'medmm[search]', or set trials = 0."
        ) from None
    from pipelines.training.folds import patient_folds

    strata = np.array(
        ["/".join(str(values[row].tolist()) for values in targets.values()) for row in range(len(features))]
    )
    parts = patient_folds(patients, strata, spec.inner_folds, settings.seed)

    def objective(trial: "optuna.Trial") -> float:
        tried = dataclasses.replace(
            settings,
            learning_rate=trial.suggest_float("learning_rate", *spec.learning_rate, log=True),
            weight_decay=trial.suggest_float("weight_decay", *spec.weight_decay, log=True),
            modality_dropout=trial.suggest_float("modality_dropout", *spec.modality_dropout),
        )
        losses = [
            _loss(reader, features, targets, parts == part, tried, recipe.training.objectives)
            for part in sorted(set(parts.tolist()))
        ]
        return float(np.mean(losses))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    study.optimize(objective, n_trials=spec.trials)
    return dataclasses.replace(settings, **study.best_params)


def _loss(
    reader: CaseReader,
    features: Sequence[CaseFeatures],
    targets: Mapping[str, np.ndarray],
    held_out: np.ndarray,
    settings: WhatSettings,
    objectives: Objectives,
) -> float:
    """Cross-entropy of a fresh model on the held-out cases."""
    model = MultimodalModel(reader.config, reader.model.labels)
    model.load_state_dict(reader.model.state_dict())
    fresh = CaseReader(model.eval(), reader.text_encoder, reader.graph)
    seen, unseen = np.flatnonzero(~held_out).tolist(), np.flatnonzero(held_out).tolist()
    known = {name: values[seen] for name, values in targets.items()}
    train_what(fresh, [features[row] for row in seen], known, settings, objectives=objectives)
    logits = predict_logits(fresh, [features[row] for row in unseen])
    losses = []
    for task in reader.model.labels.fusion_tasks():
        truth = torch.from_numpy(targets[task.name][unseen])
        weights = torch.ones(len(task.classes), dtype=torch.float64)
        losses.append(float(task_loss(torch.from_numpy(logits[task.name]), truth, task.kind, weights)))
    return float(np.sum(losses))
