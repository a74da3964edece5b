"""Two models on the same cases: paired bootstrap over patients, DeLong, McNemar."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medmm.errors import UsageError
from pipelines.evaluation.answers import TaskAnswers
from pipelines.evaluation.measures import metrics_for, primary_name
from pipelines.statistics import DeLong, Difference, McNemar, delong_test, mcnemar_test, paired_difference

COMPARED = ("auroc", "auprc", "balanced_accuracy", "macro_f1", "brier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The evaluated model minus the other, per metric. DeLong for two classes, and both exact tests, need one case a
    patient: they are None otherwise."""

    primary: str
    differences: Mapping[str, Difference]
    delong: DeLong | None
    mcnemar: McNemar | None

    @property
    def is_distinguishable(self) -> bool:
        """Whether the interval of the difference in the primary metric leaves out 0."""
        gap = self.differences[self.primary]
        return gap.low > 0 or gap.high < 0


def compare(task: TaskAnswers, other: np.ndarray, n_resamples: int) -> Comparison | None:
    """Return the paired tests on the cases that both models answered; None where there are none.

    Args:
        task: The evaluated model's answers.
        other: (N, L) probabilities of the other model on the same cases, NaN where it gave none.
        n_resamples: Bootstrap resamples.
    """
    known = np.isfinite(other).all(axis=1)
    if not known.any():
        return None
    both = replace(
        task,
        index=task.index[known],
        patients=task.patients[known],
        truth=task.truth[known],
        probabilities=task.probabilities[known],
        inside=task.inside[known],
        abstained=task.abstained[known],
    )
    other = other[known]
    differences = {
        name: paired_difference(
            metric, both.truth, both.probabilities, other, patients=both.patients, n_resamples=n_resamples
        )
        for name, metric in metrics_for(both).items()
        if name in COMPARED or name == primary_name(both)
    }
    is_independent = len(np.unique(both.patients)) == len(both) and both.has_one_class
    return Comparison(
        primary=primary_name(both),
        differences=differences,
        delong=_delong(both, other) if is_independent else None,
        mcnemar=mcnemar_test(both.probabilities.argmax(axis=1) == both.truth, other.argmax(axis=1) == both.truth)
        if is_independent
        else None,
    )


def aligned(
    task: TaskAnswers, classes: tuple[str, ...], by_case: Mapping[str, np.ndarray], cases: list[str]
) -> np.ndarray:
    """Return another model's probabilities (N, L) in the order of these cases and classes; NaN where it has none.

    Raises:
        UsageError: `model.mismatch` where its classes differ.
    """
    if set(classes) != set(task.classes):
        raise UsageError(
            f"The other model answers {task.task.name!r} with other classes.",
            code="model.mismatch",
            remedy="Compare models of the same task.",
        )
    order = [classes.index(name) for name in task.classes]
    nothing = np.full(len(order), np.nan)
    rows = [by_case[case][order] if case in by_case else nothing for case in cases]
    return np.array(rows).reshape(len(cases), len(order))


def _delong(task: TaskAnswers, other: np.ndarray) -> DeLong | None:
    positive = task.truth == 1
    if len(task.classes) != 2 or min(positive.sum(), (~positive).sum()) < 2:
        return None
    return delong_test(positive, task.probabilities[:, 1], other[:, 1])
