"""Fitting a task's calibration on cases that the model did not see, by the task's kind."""

import numpy as np
import torch

from medmm.config import Calibration, TaskSpec
from medmm.heads import probabilities
from medmm.uncertainty import conformal_quantile, fit_temperature, label_thresholds

UNKNOWN = -1


def fit_calibration(task: TaskSpec, logits: np.ndarray, target: np.ndarray) -> Calibration:
    """Return temperature and conformal quantile (or the thresholds of a multi-label task); the rest as it was.

    Survival tasks get nothing but the number of cases: what a censored case would have been is not known, so neither
    sharpness nor coverage can be fitted like that.

    Args:
        task: Whose `calibration` names the coverage and the kind of sets.
        logits: (N, L), from models that did not see the case.
        target: As for `medmm.heads.task_loss`.
    """
    before = task.calibration
    known = target != UNKNOWN if target.ndim == 1 else (target != UNKNOWN).any(axis=1)
    held_out, truth = logits[known], target[known]
    if task.kind == "survival":
        return before.model_copy(update={"n": len(truth)})
    temperature = fit_temperature(held_out, truth)
    chances = probabilities(torch.from_numpy(held_out), task.kind, temperature).numpy()
    fitted: dict[str, object] = {"temperature": temperature, "n": len(truth)}
    if task.kind == "multilabel":
        fitted["thresholds"] = label_thresholds(chances, truth, before.coverage)
    else:
        fitted["quantile"] = conformal_quantile(chances, truth, before.coverage, before.rule)
    return before.model_copy(update=fitted)
