"""Answers to every case from models that did not see its patient, and what they are worth."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medmm.config import Labels, ModelConfig, TaskSpec
from medmm.heads import probabilities
from medmm.report.files import write_atomic
from medmm.report.table import csv_cell
from medmm.uncertainty import decide, decide_labels
from pipelines.evaluation.answers import TaskAnswers
from pipelines.evaluation.comparison import Comparison, aligned, compare
from pipelines.evaluation.measures import Table, measure_task
from pipelines.evaluation.predictions import Predictions
from pipelines.labels import is_known
from pipelines.statistics import N_BOOTSTRAP, bootstrap
from pipelines.training.cohort import Cohort
from pipelines.training.folds import Fold, patient_folds
from pipelines.training.what import calibrate

_OVERLAP: Mapping[str, Callable[[np.ndarray], float]] = {
    "dice_mean": lambda values: float(values.mean()),
    "dice_median": lambda values: float(np.median(values)),
    "share_at_dice_0": lambda values: float((values == 0).mean()),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldAnswers:
    """What one fold's model said of its test cases: `logits` (T, L) by task, `overlaps` (T, R), epochs by step."""

    fold: Fold
    logits: Mapping[str, np.ndarray]
    overlaps: np.ndarray
    epochs: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """The N cases that were tested, by `rows` of the cohort. Logits are means over the repeats.

    `part` (N,) says which cases were tested together, in the first repeat.
    """

    rows: np.ndarray
    patients: np.ndarray
    targets: Mapping[str, np.ndarray]
    logits: Mapping[str, np.ndarray]
    overlaps: np.ndarray
    part: np.ndarray
    epochs: Mapping[str, int]


def join_folds(answers: Sequence[FoldAnswers], cohort: Cohort) -> OutOfFold:
    """Return the folds' answers in the order of the cohort; epochs are the median over the folds."""
    n_cases = len(cohort)
    times, part = np.zeros(n_cases), np.full(n_cases, -1)
    logits = {name: np.zeros((n_cases, values.shape[1])) for name, values in answers[0].logits.items()}
    overlaps = np.zeros((n_cases, answers[0].overlaps.shape[1]))
    for number, item in enumerate(answers):
        times[item.fold.test] += 1
        overlaps[item.fold.test] += item.overlaps
        for name, values in item.logits.items():
            logits[name][item.fold.test] += values
        if item.fold.repeat == 0:
            part[item.fold.test] = number
    rows = np.flatnonzero(times)
    steps = dict.fromkeys(step for item in answers for step in item.epochs)
    return OutOfFold(
        rows=rows,
        patients=cohort.patients[rows],
        targets={name: values[rows] for name, values in cohort.targets.items()},
        logits={name: values[rows] / times[rows, None] for name, values in logits.items()},
        overlaps=overlaps[rows] / times[rows, None],
        part=part[rows],
        epochs={step: max(1, int(np.median([item.epochs[step] for item in answers]))) for step in steps},
    )


def answers_of(found: OutOfFold, labels: Labels) -> list[TaskAnswers]:
    """Return the calibrated answers by task. A case is calibrated on the cases of the other parts only.

    So that calibration error and coverage are not measured on the cases that they were fitted on.
    """
    parts = found.part
    if len(set(parts.tolist())) < 2:
        strata = np.zeros(len(parts))
        parts = patient_folds(found.patients, strata, 2, 0) if len(set(found.patients)) > 1 else parts
    tasks = {task.name: task for task in labels.tasks}
    chances = {name: np.zeros_like(values) for name, values in found.logits.items()}
    inside = {name: np.zeros(values.shape, dtype=bool) for name, values in found.logits.items()}
    for part in sorted(set(parts.tolist())):
        here, elsewhere = parts == part, parts != part
        fitted = calibrate(
            labels,
            {name: values[elsewhere] for name, values in found.logits.items()},
            {name: values[elsewhere] for name, values in found.targets.items()},
        )
        for task in fitted.tasks:
            values = torch.from_numpy(found.logits[task.name][here])
            rows = probabilities(values, task.kind, task.calibration.temperature).double().numpy()
            chances[task.name][here] = rows
            inside[task.name][here] = [_inside(task, row) for row in rows]
    return [_answers(found, tasks[name], chances[name], inside[name]) for name in tasks]


def measure_out_of_fold(
    found: OutOfFold, labels: Labels, regions: Sequence[str], n_resamples: int = N_BOOTSTRAP
) -> dict[str, Table]:
    """Return `{task or region: {metric: estimate}}`, intervals over patients."""
    tables = {item.task.name: measure_task(item, n_resamples) for item in answers_of(found, labels)}
    for number, name in enumerate(regions):
        known = np.isfinite(found.overlaps[:, number])
        if known.any():
            overlap, patients = found.overlaps[known, number], found.patients[known]
            tables[name if name not in tables else f"region {name}"] = {
                metric: bootstrap(summary, overlap, patients=patients, n_resamples=n_resamples)
                for metric, summary in _OVERLAP.items()
            }
    return {name: table for name, table in tables.items() if table}


def compare_out_of_fold(
    found: OutOfFold, labels: Labels, cohort: Cohort, others: Mapping[str, Predictions], n_resamples: int = N_BOOTSTRAP
) -> dict[str, Comparison]:
    """Return paired tests by task against another training's out-of-fold answers, on the cases that both have.

    Raises:
        UsageError: `model.mismatch` where the other's classes differ.
    """
    compared = {}
    for item in answers_of(found, labels) if others else ():
        other = others.get(item.task.name)
        if other is not None:
            cases = [cohort.rows[int(row)].case for row in item.index]
            compared[item.task.name] = compare(item, aligned(item, other.classes, other.by_case, cases), n_resamples)
    return {name: one for name, one in compared.items() if one is not None}


def write_out_of_fold(path: Path, found: OutOfFold, labels: Labels, cohort: Cohort) -> None:
    """Write the answers as `predictions.csv` of an evaluation has them, so that models can be compared by them."""
    classes = list(dict.fromkeys(label.name for task in labels.tasks for label in task.classes))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in ("case", "patient", "task", "truth", "answer", *classes)])
    _, numbers = np.unique(found.patients.astype(str), return_inverse=True)
    place = {int(row): index for index, row in enumerate(found.rows)}
    for item in answers_of(found, labels):
        for chance, row in zip(item.probabilities, item.index, strict=True):
            shown = {name: round(float(value), 6) for name, value in zip(item.classes, chance, strict=True)}
            case, number = cohort.rows[row], int(numbers[place[int(row)]]) + 1
            answer = item.classes[int(chance.argmax())]
            cells = (case.case, number, item.task.name, case.labels[item.task.name], answer, *map(shown.get, classes))
            writer.writerow([csv_cell(cell) for cell in cells])
    write_atomic(path, buffer.getvalue().encode("utf-8", "replace"))


def region_names(config: ModelConfig) -> list[str]:
    """Names of the regions that a model delineates."""
    return [region.name for region in config.volume.regions] if config.volume is not None else []


def _inside(task: TaskSpec, chances: np.ndarray) -> list[bool]:
    names, titles = [label.name for label in task.classes], [label.title for label in task.classes]
    spec = task.calibration
    if task.kind == "multilabel":
        chosen = decide_labels(names, chances, spec.thresholds).prediction_set
    else:
        chosen = decide(names, titles, chances, spec.quantile, spec.coverage, rule=spec.rule).prediction_set
    return [name in chosen for name in names]


def _answers(found: OutOfFold, task: TaskSpec, chances: np.ndarray, inside: np.ndarray) -> TaskAnswers:
    known = is_known(found.targets[task.name])
    return TaskAnswers(
        task=task,
        index=found.rows[known],
        patients=found.patients[known],
        truth=found.targets[task.name][known],
        probabilities=chances[known],
        inside=inside[known],
        abstained=inside[known].sum(axis=1) != 1,
    )
