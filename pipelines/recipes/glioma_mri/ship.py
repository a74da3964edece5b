"""From cross-validation to a model directory: metrics with intervals, calibration, card."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

import kg
from medmm.checkpoint import save_model
from medmm.config import Labels, TaskSpec
from medmm.heads import probabilities
from medmm.uncertainty import decide
from pipelines.recipes.glioma_mri.baselines import BASELINES, READERS
from pipelines.recipes.glioma_mri.card import SITE, write_card
from pipelines.recipes.glioma_mri.crossval import CrossValidation, LeftOutSites, cross_validate
from pipelines.recipes.glioma_mri.spec import LABELS
from pipelines.recipes.glioma_mri.what import fit_everyone
from pipelines.statistics import METRICS, N_BOOTSTRAP, Estimate, auroc, bootstrap, paired_difference
from pipelines.training.what import UNKNOWN, calibrate

Metrics = dict[str, dict[str, dict[str, float | int]]]
Sample = Callable[..., Estimate]  # `bootstrap` with its number of resamples
MIN_CLASS_CASES = 5  # a class with fewer cases has no meaningful curve of its own


def evaluate_and_ship(data: Path, work: Path, out: Path) -> Metrics:
    """Cross-validate, fit on everyone, and write the model directory `out`; return the metrics written."""
    graph = kg.load_default()
    results = cross_validate(data, work, graph)
    labels = calibrate(LABELS, results.logits["all"], _targets_where_found(results))
    metrics = measure(results, labels)
    fitted = fit_everyone(data, work, graph)
    fitted.model.labels = labels
    work.mkdir(parents=True, exist_ok=True)
    (work / "out_of_fold.json").write_text(json.dumps(_rows(results, labels), indent=1), encoding="utf-8")
    save_model(
        out,
        fitted.model,
        metrics=metrics,
        card=write_card(metrics, graph, results),
        training_cases=fitted.training_cases,
    )
    return metrics


def measure(results: CrossValidation, labels: Labels, n_resamples: int = N_BOOTSTRAP) -> Metrics:
    """Return `{what: {metric: {value, low, high, n}}}` from out-of-fold answers, intervals over patients."""
    sample = partial(bootstrap, n_resamples=n_resamples)
    metrics: Metrics = {"tumour": _measure_masks(results.dice, sample)}
    for task in labels.tasks:
        truth, chances = _known(results, task, "all")
        table = {name: sample(metric, truth, chances) for name, metric in METRICS.items()}
        table["auroc"] = sample(_auroc_of_frequent, truth, chances)
        table |= _measure_sets(task, truth, chances, sample)
        if task.source == "fusion":
            table |= _measure_variants(results, task, truth, chances, n_resamples)
        else:
            drawn = _known(results, task, READERS)[1]
            table[f"auroc, {READERS}"] = sample(_auroc_of_frequent, truth, drawn)
        metrics[task.name] = {name: estimate.to_dict() for name, estimate in table.items()}
    for name, figures in measure_sites(results.sites, labels, n_resamples).items():
        metrics[name] |= figures
    flags = results.outlier.astype(float)
    metrics["out_of_distribution"] = {"flagged": sample(lambda flagged: float(flagged.mean()), flags).to_dict()}
    return metrics


def measure_sites(sites: LeftOutSites, labels: Labels, n_resamples: int = N_BOOTSTRAP) -> Metrics:
    """Return `{what: {metric: {value, low, high, n}}}` of the same patients, each asked of models without the site.

    AUROC over all sites together, of the full model and the best baseline, and of each site that has enough patients;
    the masks, where trunks left the site out too.
    """
    metrics: Metrics = {}
    if sites.dice is not None:
        metrics["tumour"] = _measure_site_masks(sites, sites.dice, n_resamples)
    for task in labels.tasks:
        table = _measure_site_task(sites, task, n_resamples)
        metrics[task.name] = {f"{SITE}{name}": estimate.to_dict() for name, estimate in table.items()}
    return metrics


def _measure_site_masks(sites: LeftOutSites, dice: np.ndarray, n_resamples: int) -> dict[str, dict[str, float | int]]:
    sample = partial(bootstrap, n_resamples=n_resamples)
    table = {f"{SITE}{name}": figure for name, figure in _measure_masks(dice, sample).items()}
    of_patients = np.array([patient.site for patient in sites.patients])
    for site in np.unique(of_patients):
        table[f"{SITE}dice_mean at {site}"] = sample(lambda own: float(own.mean()), dice[of_patients == site]).to_dict()
    return table


def _measure_masks(dice: np.ndarray, sample: Sample) -> dict[str, dict[str, float | int]]:
    summaries: dict[str, Callable[[np.ndarray], float]] = {
        "dice_mean": lambda values: float(values.mean()),
        "dice_median": lambda values: float(np.median(values)),
        "patients_at_dice_0": lambda values: float((values == 0).sum()),
        "patients_below_dice_0.5": lambda values: float((values < 0.5).sum()),
    }
    return {name: sample(summary, dice).to_dict() for name, summary in summaries.items()}


def _measure_sets(task: TaskSpec, truth: np.ndarray, chances: np.ndarray, sample: Sample) -> dict[str, Estimate]:
    """How often the prediction set holds the truth, how large it is, how often it says one thing and is right."""
    calibration = task.calibration
    names, titles = [label.name for label in task.classes], [label.title for label in task.classes]
    decisions = [decide(names, titles, row, calibration.quantile, calibration.coverage) for row in chances]
    covered = np.array([names[label] in d.prediction_set for label, d in zip(truth, decisions, strict=True)], float)
    answered = np.array([not decision.abstained for decision in decisions], float)
    size = np.array([len(decision.prediction_set) for decision in decisions], float)
    right = np.array(
        [not d.abstained and names[label] in d.prediction_set for label, d in zip(truth, decisions, strict=True)]
    )

    def mean(values: np.ndarray) -> float:
        return float(values.mean())

    def share_right(hits: np.ndarray, said: np.ndarray) -> float:
        return float(hits.sum() / said.sum()) if said.any() else float("nan")

    return {
        "set_coverage": sample(mean, covered),
        "set_size": sample(mean, size),
        "answered": sample(mean, answered),
        "accuracy_where_answered": sample(share_right, right.astype(float), answered),
    }


def _measure_variants(
    results: CrossValidation, task: TaskSpec, truth: np.ndarray, chances: np.ndarray, n_resamples: int
) -> dict[str, Estimate]:
    """AUROC of every other variant, and what the full model gains over it on the same patients."""
    table = {}
    for name, by_task in results.logits.items():
        if name == "all" or task.name not in by_task:
            continue
        _, others = _known(results, task, name)
        table[f"auroc, {name}"] = bootstrap(auroc, truth, others, n_resamples=n_resamples)
        table[f"auroc gain over {name}"] = paired_difference(auroc, truth, chances, others, n_resamples=n_resamples)
    return table


def _measure_site_task(sites: LeftOutSites, task: TaskSpec, n_resamples: int) -> dict[str, Estimate]:
    sample = partial(bootstrap, n_resamples=n_resamples)
    truth, chances = _known(sites, task, "all")
    table = {
        "accuracy": sample(METRICS["accuracy"], truth, chances),
        "auroc": sample(_auroc_of_frequent, truth, chances),
    }
    if task.source == "fusion":
        rivals = {name: _known(sites, task, name)[1] for name in BASELINES}
        best = max(rivals, key=lambda name: auroc(truth, rivals[name]))
        table[f"auroc, {best}"] = sample(auroc, truth, rivals[best])
        table[f"auroc gain over {best}"] = paired_difference(
            auroc, truth, chances, rivals[best], n_resamples=n_resamples
        )
    of_patients = np.array([patient.site for patient in sites.patients])[sites.targets[task.name] != UNKNOWN]
    for site in np.unique(of_patients):
        own = truth[of_patients == site]
        counts = np.bincount(own, minlength=len(task.classes))
        if (counts >= MIN_CLASS_CASES).sum() > 1:
            table[f"auroc at {site}"] = sample(_auroc_of_frequent, own, chances[of_patients == site])
    return table


def _known(results: CrossValidation | LeftOutSites, task: TaskSpec, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth (N,) and calibrated probabilities (N, L) of the patients whose label is known."""
    known = results.targets[task.name] != UNKNOWN
    answers = torch.from_numpy(results.logits[variant][task.name][known])
    return results.targets[task.name][known], probabilities(answers, task.kind, task.calibration.temperature).numpy()


def _auroc_of_frequent(truth: np.ndarray, chances: np.ndarray) -> float:
    """Mean one-against-rest AUROC over the classes with at least `MIN_CLASS_CASES` patients; NaN if one has none."""
    if chances.shape[1] == 2:
        return auroc(truth, chances)
    frequent = np.flatnonzero(np.bincount(truth, minlength=chances.shape[1]) >= MIN_CLASS_CASES)
    pairs = [np.stack([1 - chances[:, label], chances[:, label]], axis=1) for label in frequent]
    return float(
        np.mean([auroc((truth == label).astype(int), pair) for label, pair in zip(frequent, pairs, strict=True)])
    )


def _targets_where_found(results: CrossValidation) -> dict[str, np.ndarray]:
    """Location answers are given only where something was found, so calibrate them there."""
    places = {task.name for task in LABELS.location_tasks()}
    return {
        name: np.where(results.found, values, UNKNOWN) if name in places else values
        for name, values in results.targets.items()
    }


def _rows(results: CrossValidation, labels: Labels) -> list[dict[str, object]]:
    """Out-of-fold answers by patient, for whoever wants to check the figures."""
    rows: list[dict[str, object]] = []
    for index, patient in enumerate(results.patients):
        row: dict[str, object] = {"patient": patient.patient, "dice": results.dice[index], "site": patient.site}
        for task in labels.tasks:
            logits = torch.from_numpy(results.logits["all"][task.name][index : index + 1])
            chances = probabilities(logits, task.kind, task.calibration.temperature)[0]
            truth = int(results.targets[task.name][index])
            row[task.name] = {
                "truth": None if truth == UNKNOWN else task.classes[truth].name,
                "answer": task.classes[int(chances.argmax())].name,
                "probability": float(chances.max()),
            }
        rows.append(row)
    return rows
