"""Tables that say where the figures come from: subgroups, sites left out, modalities, the graph, the acquisition."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.acquisition import acquisition_answers, record_facts
from pipelines.evaluation.answers import Answers, TaskAnswers
from pipelines.evaluation.measures import primary_metric
from pipelines.evaluation.variants import GRAPH_NONE, GRAPH_SHUFFLED
from pipelines.statistics import Difference, Estimate, age_bands, bootstrap, paired_difference

SUBGROUP_COLUMNS = ("sex", "site", "scanner", "manufacturer")
CHANCE = 0.5  # AUROC of guessing
MIN_PATIENTS = 5  # fewer say nothing of a subgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupRow:
    """The primary metric inside one group and over everyone else: for sites, the figure with that site left out."""

    column: str
    value: str
    inside: Estimate
    outside: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """The primary metric under a control, and what the full model, whose own gain is None, gains over it."""

    name: str
    score: Estimate
    gain: Difference | None


def subgroups(answers: Answers, task: TaskAnswers, by: Sequence[str], n_resamples: int) -> list[SubgroupRow]:
    """Return a row for each value of each column that splits the cases; small groups are left out."""
    rows = []
    for column, values in _columns(answers, task, by):
        for value in sorted(set(values) - {""}):
            inside = values == value
            if inside.all() or len(np.unique(task.patients[inside])) < MIN_PATIENTS:
                continue
            rows.append(
                SubgroupRow(
                    column=column,
                    value=value,
                    inside=_score(task, inside, n_resamples),
                    outside=_score(task, ~inside, n_resamples),
                )
            )
    return rows


def modality_rows(answers: Answers, task: TaskAnswers, n_resamples: int) -> list[ControlRow]:
    """Return the availability table: the primary metric from each subset of the modalities, against the full model."""
    names = [name for name in answers.variants if name not in (GRAPH_NONE, GRAPH_SHUFFLED)]
    return [row for name in names if (row := _control(name, answers.variant(name, task), task, n_resamples))]


def graph_rows(answers: Answers, task: TaskAnswers, n_resamples: int) -> list[ControlRow]:
    """Return the primary metric with the real graph, without one, and with a shuffled one; nothing without a graph."""
    names = [name for name in (GRAPH_NONE, GRAPH_SHUFFLED) if name in answers.variants]
    rows = [row for name in names if (row := _control(name, answers.variant(name, task), task, n_resamples))]
    if not rows:
        return []
    everyone = np.ones(len(task), bool)
    return [ControlRow(name="graph: real", score=_score(task, everyone, n_resamples), gain=None), *rows]


def acquisition_row(answers: Answers, task: TaskAnswers, n_resamples: int) -> ControlRow | None:
    """Return what a model reaches that sees only how and where a case was scanned; None where that is not learnable."""
    if not task.has_one_class:
        return None
    facts = [{**answers.cases[row].facts, **record_facts(answers.cases[row].row.record)} for row in task.index]
    if not any(facts):
        return None
    chances = acquisition_answers(facts, task.truth, task.patients, len(task.classes))
    row = _control("acquisition only, cross-validated on these cases", chances, task, n_resamples)
    if row is None or row.score.value >= CHANCE or task.task.kind == "ranking":
        return row
    # Cross-validated noise lies below chance in small sets: what was learned is worth what guessing is.
    guesses = np.where(np.isfinite(chances), 1 / len(task.classes), np.nan)
    return _control("acquisition only: nothing learned, so guessing", guesses, task, n_resamples)


def _control(name: str, chances: np.ndarray, task: TaskAnswers, n_resamples: int) -> ControlRow | None:
    """A control is compared on the cases that it applies to."""
    known = np.isfinite(chances).all(axis=1)
    if not known.any():
        return None
    truth, patients, metric = task.truth[known], task.patients[known], primary_metric(task)
    return ControlRow(
        name=name,
        score=bootstrap(metric, truth, chances[known], patients=patients, n_resamples=n_resamples),
        gain=paired_difference(
            metric, truth, task.probabilities[known], chances[known], patients=patients, n_resamples=n_resamples
        ),
    )


def _score(task: TaskAnswers, rows: np.ndarray, n_resamples: int) -> Estimate:
    return bootstrap(
        primary_metric(task),
        task.truth[rows],
        task.probabilities[rows],
        patients=task.patients[rows],
        n_resamples=n_resamples,
    )


def _columns(answers: Answers, task: TaskAnswers, by: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Each column that splits the task's cases, with its values (N,) as text, empty where unknown."""
    records: list[Mapping[str, str]] = [answers.cases[row].row.record for row in task.index]
    ages = np.array([_number(record.get("age_years", "")) for record in records])
    if np.isfinite(ages).any():
        yield "age", age_bands(ages)
    for name in dict.fromkeys((*SUBGROUP_COLUMNS, *by)):
        if any(record.get(name) for record in records):
            yield name, np.array([record.get(name, "") for record in records])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
