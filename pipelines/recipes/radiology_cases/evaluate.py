"""How good answers are: each file of a folder of answers against the labels, with 95 % intervals over cases.

Images of one case are drawn together by the bootstrap. A case or image that has a label and no answer counts as wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.recipes.radiology_cases.answers import (
    RETRIEVALS,
    SETTINGS,
    T2_SETTINGS,
    T3_SETTINGS,
    read_labels,
    read_probabilities,
    read_ranked,
)
from pipelines.recipes.radiology_cases.cases import CaseInput, CaseTarget
from pipelines.recipes.radiology_cases.labels import PICTURE_TASKS
from pipelines.statistics import Estimate, bootstrap, mean_reciprocal_rank, recall_at

DEPTHS = (1, 5, 10, 50)
NO_ANSWER = -2
NEVER = np.inf  # rank of what is not in an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number: which file it is about, over which cases, what it measures."""

    file: str
    subset: str
    metric: str
    estimate: Estimate

    def to_dict(self) -> dict[str, object]:
        """For `metrics.json`."""
        return {
            "file": self.file,
            "subset": self.subset,
            "metric": self.metric,
            **self.estimate.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one file says, row by row: columns (R,) that `metrics` take, and which case a row is of (R,)."""

    case: np.ndarray
    columns: tuple[np.ndarray, ...]
    metrics: Mapping[str, Callable[..., float]]

    def measure(self, file: str, subset: str = "all") -> Iterator[Measured]:
        """Yield every metric with its interval."""
        for name, metric in self.metrics.items():
            estimate = bootstrap(metric, *self.columns, patients=self.case)
            yield Measured(file=file, subset=subset, metric=name, estimate=estimate)


def evaluate(
    answers: Path,
    inputs: Sequence[CaseInput],
    targets: Sequence[CaseTarget],
    seen: frozenset[str],
) -> list[Measured]:
    """Return every metric of every known file in `answers`; files that are not there are left out.

    Args:
        answers: Folder with files as `predict` writes them.
        inputs: The cases, for what T4 asks.
        targets: Their labels, in the same order.
        seen: Diagnoses with a training case, for the subsets of T3.
    """
    found: list[Measured] = []
    for name, outcomes in outcomes_of(answers, inputs, targets, seen):
        for subset, outcome in outcomes.items():
            if len(outcome.case):
                found.extend(outcome.measure(name, subset))
    return found


# What ablations are compared by: file, metric.
COMPARED = (
    ("T1_case_hef_images", "accuracy"),
    ("T2_hef_images", "macro_f1"),
    ("T3_he_images", "R@10"),
    ("T3_hef_images", "R@10"),
    ("T3_hef_images", "MRR"),
)


def compare(
    first: Path, second: Path, inputs: Sequence[CaseInput], targets: Sequence[CaseTarget], seen: frozenset[str]
) -> list[Measured]:
    """Return by how much the first answers are better on the same cases, with paired intervals."""
    left, right = (dict(outcomes_of(folder, inputs, targets, seen)) for folder in (first, second))
    found = []
    for file, name in COMPARED:
        if file in left and file in right:
            one, other = left[file]["all"], right[file]["all"]
            metric, width = one.metrics[name], len(one.columns)

            def gain(*columns: np.ndarray, metric: Callable[..., float] = metric, width: int = width) -> float:
                return metric(*columns[:width]) - metric(*columns[width:])

            estimate = bootstrap(gain, *one.columns, *other.columns, patients=one.case)
            found.append(Measured(file=file, subset="all", metric=f"{name}, difference", estimate=estimate))
    return found


def outcomes_of(
    answers: Path,
    inputs: Sequence[CaseInput],
    targets: Sequence[CaseTarget],
    seen: frozenset[str],
) -> Iterator[tuple[str, Mapping[str, Outcome]]]:
    """Yield the outcome of every file that is there, by subset of cases."""
    readers: dict[str, Callable[[Path], Mapping[str, Outcome]]] = {}
    by_picture = {
        "T1_image": "location",
        "T5_modality": "modality",
        "T5_plane": "plane",
    }
    by_picture |= {f"T1_image_{setting}": "location" for setting in SETTINGS}
    for name, task in by_picture.items():
        readers[name] = partial(_classes, key="image", task=task, targets=targets)
    for setting in SETTINGS:
        readers[f"T1_case_{setting}"] = partial(_classes, key="id", task="location", targets=targets)
    for setting in T2_SETTINGS:
        readers[f"T2_{setting}"] = partial(_classes, key="id", task="superclass", targets=targets)
    for setting in T3_SETTINGS:
        readers[f"T3_{setting}"] = partial(_diagnoses, targets=targets, seen=seen)
    for name in RETRIEVALS:
        readers[f"T4_{name}"] = partial(_retrieval, inputs=inputs)
    for name, reader in readers.items():
        path = answers / f"{name}.csv"
        if path.is_file():
            yield name, reader(path)


def _classes(path: Path, *, key: str, task: str, targets: Sequence[CaseTarget]) -> Mapping[str, Outcome]:
    classes = PICTURE_TASKS[task]
    index = {name: at for at, name in enumerate(classes)}
    answered, chances = read_labels(path, key), read_probabilities(path, key, classes)
    rows: list[tuple[int, int, int, float]] = []
    for at, case in enumerate(targets):
        named = [(one.file, one) for one in case.pictures] if key == "image" else [(case.id, case)]
        for name, owner in named:
            truth = getattr(case if task in ("location", "superclass") else owner, task)
            if truth >= 0:
                own = chances.get(name)
                above = np.inf if own is None else float((own >= own[truth]).sum())
                rows.append((at, truth, index.get(answered.get(name, ""), NO_ANSWER), above))
    table = np.array(rows, dtype=float).reshape(-1, 4)
    metrics: dict[str, Callable[..., float]] = {
        "accuracy": lambda truth, said, _: float((truth == said).mean()),
        "balanced_accuracy": _balanced_accuracy,
        "macro_f1": macro_f1,
    }
    if chances and len(classes) > 5:
        metrics["top_3"] = lambda truth, said, above: float((above <= 3).mean())
    return {
        "all": Outcome(
            case=table[:, 0],
            columns=(table[:, 1], table[:, 2], table[:, 3]),
            metrics=metrics,
        )
    }


def _diagnoses(path: Path, *, targets: Sequence[CaseTarget], seen: frozenset[str]) -> Mapping[str, Outcome]:
    ranked = read_ranked(path, "id")
    asked = [case for case in targets if case.diagnosis]
    ranks = np.array([_rank(ranked.get(case.id, []), {case.diagnosis}) for case in asked])
    is_unnamed = np.array([not case.is_named for case in asked], dtype=bool)
    is_unseen = np.array([case.diagnosis not in seen for case in asked], dtype=bool)
    subsets = {
        "all": np.ones(len(asked), dtype=bool),
        "unnamed": is_unnamed,
        "unseen": is_unseen,
        "unnamed_unseen": is_unnamed & is_unseen,
    }
    return {name: _ranks(np.flatnonzero(rows), ranks[rows]) for name, rows in subsets.items()}


def _retrieval(path: Path, *, inputs: Sequence[CaseInput]) -> Mapping[str, Outcome]:
    ranked = read_ranked(path, "query")
    same_caption: dict[str, set[str]] = {}
    for case in inputs:
        for one in case.pictures:
            same_caption.setdefault(one.caption, set()).add(one.file)
    owners: list[int] = []
    ranks: list[float] = []
    for at, case in enumerate(inputs):
        files = {one.file for one in case.pictures}
        if path.stem == "T4_findings_to_image":
            wanted = {case.id: files} if case.findings.strip() and files else {}
        elif path.stem == "T4_image_to_findings":
            wanted = {file: {case.id} for file in files} if case.findings.strip() else {}
        else:
            wanted = {one.file: same_caption[one.caption] for one in case.pictures if one.caption.strip()}
        for query, hits in sorted(wanted.items()):
            owners.append(at)
            ranks.append(_rank(ranked.get(query, []), hits))
    return {"all": _ranks(np.array(owners), np.array(ranks))}


def _ranks(case: np.ndarray, ranks: np.ndarray) -> Outcome:
    metrics: dict[str, Callable[..., float]] = {f"R@{depth}": partial(recall_at, k=depth) for depth in DEPTHS}
    return Outcome(case=case, columns=(ranks,), metrics=metrics | {"MRR": mean_reciprocal_rank})


def _rank(ranked: Sequence[str], hits: set[str]) -> float:
    return next((float(at) for at, one in enumerate(ranked, start=1) if one in hits), NEVER)


def _balanced_accuracy(truth: np.ndarray, said: np.ndarray, _: np.ndarray) -> float:
    return float(np.mean([(said[truth == label] == label).mean() for label in np.unique(truth)]))


def macro_f1(truth: np.ndarray, said: np.ndarray, _: np.ndarray | None = None) -> float:
    """Return the mean F1 over the classes that occur in the truth, as the task states."""
    scores = []
    for label in np.unique(truth):
        both = ((truth == label) & (said == label)).sum()
        scores.append(2 * both / ((truth == label).sum() + (said == label).sum()))
    return float(np.mean(scores))
