"""The figures of an evaluation: for each task and region its metrics with intervals over patients."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.stats import spearmanr

from pipelines.evaluation.answers import Answers, RegionScore, TaskAnswers
from pipelines.statistics import (
    METRICS,
    Estimate,
    bootstrap,
    interval_concordance,
    mean_reciprocal_rank,
    multilabel_auprc,
    multilabel_auroc,
    multilabel_brier,
    multilabel_f1,
    quadratic_kappa,
    ranks_of,
    recall_at,
    set_coverage,
    set_size,
    top_k_accuracy,
)
from pipelines.statistics.classes import Metric

Table = dict[str, Estimate]
RANKED_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "brier")  # of METRICS, for hundreds of candidates
MANY_CLASSES = 5  # from this many on, the rank of the right class is of interest
TOP = (3, 5, 10)


def metrics_for(answers: TaskAnswers) -> dict[str, Metric]:
    """Return the metrics of (class indices, probabilities) that fit a task: kappa for order, ranks for many classes."""
    if answers.task.kind == "multilabel":
        return {"auroc": multilabel_auroc, "auprc": multilabel_auprc, "brier": multilabel_brier}
    if answers.task.kind == "survival":
        return {"c_index": interval_concordance}
    chosen = dict(METRICS)
    if answers.task.kind == "ranking":
        chosen = {name: METRICS[name] for name in RANKED_METRICS}
    if answers.task.kind == "regression":
        edges = np.array(answers.task.edges)
        middle = (edges[:-1] + edges[1:]) / 2
        return {
            "mean_absolute_error": lambda truth, chances: float(np.abs(chances @ middle - middle[truth]).mean()),
            "rank_correlation": lambda truth, chances: float(spearmanr(chances @ middle, truth).statistic),
        }
    if answers.task.kind == "ordinal":
        chosen["quadratic_kappa"] = quadratic_kappa
    if len(answers.classes) >= MANY_CLASSES or answers.task.kind == "ranking":
        for k in (k for k in TOP if k < len(answers.classes)):
            chosen[f"top_{k}"] = lambda truth, chances, k=k: top_k_accuracy(truth, chances, k)  # type: ignore[misc]  # k is bound now
            chosen[f"recall_at_{k}"] = lambda truth, chances, k=k: recall_at(ranks_of(truth, chances), k)  # type: ignore[misc]  # k is bound now
        chosen["mrr"] = lambda truth, chances: mean_reciprocal_rank(ranks_of(truth, chances))
    return chosen


def primary_metric(answers: TaskAnswers) -> Metric:
    """Return the one figure by which controls and subgroups are compared; `primary_name` says which."""
    chosen = metrics_for(answers)
    return chosen[primary_name(answers)]


def primary_name(answers: TaskAnswers) -> str:
    """AUROC; the C-index of survival, the mean reciprocal rank of rankings, the rank correlation of numbers."""
    names = {"survival": "c_index", "ranking": "mrr", "regression": "rank_correlation"}
    return names.get(answers.task.kind, "auroc")


def measure_task(answers: TaskAnswers, n_resamples: int) -> Table:
    """Return every metric of a task; nothing where no case has a label."""
    if not len(answers):
        return {}
    options = {"patients": answers.patients, "n_resamples": n_resamples}
    table = {
        name: bootstrap(metric, answers.truth, answers.probabilities, **options)  # type: ignore[arg-type]  # options by name
        for name, metric in metrics_for(answers).items()
    }
    if answers.task.kind == "multilabel":
        return table | {
            "macro_f1": bootstrap(multilabel_f1, answers.truth, answers.inside, **options)  # type: ignore[arg-type]  # options by name
        }
    if not answers.has_one_class:
        return table
    said = ~answers.abstained
    right = answers.probabilities.argmax(axis=1) == answers.truth

    def share_right(hits: np.ndarray, spoke: np.ndarray) -> float:
        return float((hits & spoke).sum() / spoke.sum()) if spoke.any() else float("nan")

    more: dict[str, tuple[Callable[..., float], tuple[np.ndarray, ...]]] = {
        "set_coverage": (set_coverage, (answers.truth, answers.inside)),
        "set_size": (set_size, (answers.truth, answers.inside)),
        "answered": (lambda spoke: float(spoke.mean()), (said,)),
        "accuracy_where_answered": (share_right, (right, said)),
    }
    return table | {name: bootstrap(metric, *columns, **options) for name, (metric, columns) in more.items()}  # type: ignore[arg-type]  # options by name


def measure_region(scores: list[RegionScore], patients: np.ndarray, n_resamples: int) -> Table:
    """Return overlap, surface distance and volume error of a region over the cases that have a reference mask."""
    overlap = np.array([score.dice for score in scores])
    distance = np.array([score.hausdorff_95_mm for score in scores])
    gap = np.array([score.volume_ml - score.reference_ml for score in scores])

    def finite_median(values: np.ndarray) -> float:
        known = values[np.isfinite(values)]
        return float(np.median(known)) if len(known) else float("nan")

    summaries: dict[str, tuple[Callable[[np.ndarray], float], np.ndarray]] = {
        "dice_mean": (lambda values: float(values.mean()), overlap),
        "dice_median": (lambda values: float(np.median(values)), overlap),
        "share_at_dice_0": (lambda values: float((values == 0).mean()), overlap),
        "hausdorff_95_mm_median": (finite_median, distance),
        "share_without_distance": (lambda values: float((~np.isfinite(values)).mean()), distance),
        "volume_error_ml": (lambda values: float(values.mean()), gap),
    }
    return {
        name: bootstrap(summary, values, patients=patients, n_resamples=n_resamples)
        for name, (summary, values) in summaries.items()
    }


def region_scores(answers: Answers, name: str) -> tuple[list[RegionScore], np.ndarray]:
    """Scores of a region and the patients (N,) they belong to."""
    cases = [case for case in answers.cases if name in case.regions]
    return [case.regions[name] for case in cases], np.array([case.row.patient for case in cases], dtype=object)


def measure(answers: Answers, n_resamples: int) -> dict[str, Table]:
    """Return `{task or region: {metric: estimate}}`."""
    tables = {task.name: measure_task(answers.of_task(task.name), n_resamples) for task in answers.tasks}
    for name in dict.fromkeys(name for case in answers.cases for name in case.regions):
        key = name if name not in tables else f"region {name}"
        tables[key] = measure_region(*region_scores(answers, name), n_resamples)
    return {name: table for name, table in tables.items() if table}


def to_json(tables: Mapping[str, Table]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Return the tables as `metrics.json` has them; a figure that is not defined is null."""
    return {
        what: {
            metric: {name: (value if np.isfinite(value) else None) for name, value in estimate.to_dict().items()}
            for metric, estimate in table.items()
        }
        for what, table in tables.items()
    }
