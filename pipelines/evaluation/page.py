"""`report.html`: one self-contained page for reviewers, readable without scripts; values in, layout in the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmm.report.files import write_atomic
from medmm.report.pages import render_page
from pipelines.evaluation.answers import Answers, TaskAnswers
from pipelines.evaluation.checklist import Context, fill_checklist, methods_paragraph
from pipelines.evaluation.comparison import Comparison
from pipelines.evaluation.controls import ControlRow, SubgroupRow
from pipelines.evaluation.explanations import MapRow
from pipelines.evaluation.measures import Table, primary_name, region_scores
from pipelines.evaluation.plots import MARGIN_PX, SIZE_PX, Confusion, Plot, agreement_plot, confusion_of, task_plots
from pipelines.statistics import Estimate

TEMPLATES = Path(__file__).with_name("templates")
N_FAILURES = 12
METRIC_TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
    "macro_f1": "Macro-F1",
    "ece": "ECE",
    "brier": "Brier score",
    "mrr": "MRR",
    "c_index": "C-index",
    "hausdorff_95_mm_median": "HD95, median, mm",
    "volume_error_ml": "Volume error, ml",
}
MAX_CONFUSION = 20  # classes of a confusion table that a page can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTables:
    """Everything beside the metrics that was worked out for one task."""

    subgroups: Sequence[SubgroupRow] = ()
    modalities: Sequence[ControlRow] = ()
    graph: Sequence[ControlRow] = ()
    acquisition: ControlRow | None = None
    comparison: Comparison | None = None
    explanations: Sequence[MapRow] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A case whose most probable class is wrong, the surest first."""

    case: str
    truth: str
    answer: str
    probability: float
    prediction_set: str
    abstained: bool
    picture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A task as the template shows it."""

    anchor: str
    title: str
    n_cases: int
    metrics: Table
    plots: Sequence[Plot]
    confusion: Confusion | None
    primary: str
    tables: TaskTables
    failures: Sequence[Failure]


@dataclass(frozen=True, slots=True, kw_only=True)
class _RegionSection:
    """A region as the template shows it."""

    title: str
    metrics: Table
    plot: Plot | None


def write_page(
    path: Path, context: Context, metrics: Mapping[str, Table], tables: Mapping[str, TaskTables], other: str
) -> None:
    """Write the report.

    Args:
        path: The file.
        context: Model, answers and how they were measured.
        metrics: As from `measure`.
        tables: By task.
        other: Name of the model compared with, or empty.
    """
    answers = context.answers
    sections = [
        _section(number, answers, answers.of_task(name), metrics[name], tables[name])
        for number, name in enumerate(name for name in tables if name in metrics)
    ]
    page = render_page(
        "evaluation.html.j2",
        style="style.css",
        scripts=(),
        folder=TEMPLATES,
        spec=context.diagnoser.spec,
        n_cases=len(answers.cases),
        n_patients=len({case.row.patient for case in answers.cases}),
        refused=sorted((case, item.code, item.reason) for case, item in answers.refused.items()),
        split=context.split,
        sections=sections,
        regions=[_region(answers, name, table) for name, table in metrics.items() if name not in tables],
        methods=methods_paragraph(context),
        checklist=fill_checklist(context),
        other=other,
        shown=show_estimate,
        metric_title=metric_title,
        verdict=verdict,
        size=SIZE_PX,
        margin=MARGIN_PX,
    )
    write_atomic(path, page.encode("utf-8", errors="replace"))


def show_estimate(estimate: Estimate) -> str:
    """`0.812 (0.731 to 0.880)`; a dash where it is not defined."""
    if not np.isfinite(estimate.value):
        return "–"
    if not np.isfinite(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def metric_title(name: str) -> str:
    """A metric as people write it."""
    return METRIC_TITLES.get(name) or name.replace("_", " ").capitalize()


def verdict(gain: Estimate) -> str:
    """What an interval of a difference says."""
    if not np.isfinite([gain.low, gain.high]).all():
        return "not known"
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "not distinguishable"


def failures_of(answers: Answers, task: TaskAnswers) -> list[Failure]:
    """Return the wrong answers, the surest first, at most `N_FAILURES`."""
    if not task.has_one_class:
        return []
    best = task.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(best != task.truth)
    ranked = sorted(wrong.tolist(), key=lambda row: -float(task.probabilities[row, best[row]]))[:N_FAILURES]
    found = []
    for row in ranked:
        case = answers.cases[task.index[row]]
        found.append(
            Failure(
                case=case.row.case,
                truth=task.classes[task.truth[row]],
                answer=task.classes[best[row]],
                probability=float(task.probabilities[row, best[row]]),
                prediction_set=", ".join(case.sets[task.task.name]),
                abstained=bool(task.abstained[row]),
                picture=case.picture,
            )
        )
    return found


def _section(number: int, answers: Answers, task: TaskAnswers, metrics: Table, tables: TaskTables) -> _Section:
    return _Section(
        anchor=f"task-{number}",
        title=task.task.title,
        n_cases=len(task),
        metrics=metrics,
        plots=task_plots(task),
        confusion=confusion_of(task) if task.has_one_class and len(task.classes) <= MAX_CONFUSION else None,
        primary=metric_title(primary_name(task)),
        tables=tables,
        failures=failures_of(answers, task),
    )


def _region(answers: Answers, name: str, table: Table) -> _RegionSection:
    scores, _ = region_scores(answers, name.removeprefix("region "))
    return _RegionSection(title=name, metrics=table, plot=agreement_plot(scores))
