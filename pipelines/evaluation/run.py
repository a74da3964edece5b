"""An evaluation from manifest to files, top to bottom."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from medmm.diagnose import Diagnoser, find_model, load_model
from medmm.errors import UsageError
from medmm.report.files import write_atomic
from medmm.report.table import csv_cell
from pipelines.evaluation.answers import Answers, answer_cases
from pipelines.evaluation.checklist import Context
from pipelines.evaluation.comparison import aligned, compare
from pipelines.evaluation.controls import acquisition_row, graph_rows, modality_rows, subgroups
from pipelines.evaluation.explanations import map_rows
from pipelines.evaluation.measures import Table, measure, to_json
from pipelines.evaluation.page import TaskTables, write_page
from pipelines.evaluation.predictions import Predictions, read_predictions, write_predictions
from pipelines.evaluation.variants import Controls, plan_controls
from pipelines.events import Listener, Told, ignore
from pipelines.manifest import Manifest, ManifestRow, read_manifest
from pipelines.statistics import N_BOOTSTRAP, Estimate

TEST_SPLIT = "test"
TRAINING_CASES = "training_cases.json"
FILES = ("predictions.csv", "metrics.json", "details.json", "failures.csv", "report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationJob:
    """What to evaluate. `split` None takes the split `test` where the manifest has one, else every row."""

    model: str
    manifest: Path
    output: Path
    split: str | None = None
    against: str = ""
    by: tuple[str, ...] = ()
    device: str = "auto"
    n_resamples: int = N_BOOTSTRAP
    has_controls: bool = True
    has_pictures: bool = True
    has_explanations: bool = False
    may_overwrite: bool = False
    allow_other_graph: bool = False
    allow_training_cases: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came out: metrics by task or region, and how many cases could not be used."""

    output: Path
    metrics: Mapping[str, Table]
    n_cases: int
    n_refused: int

    @property
    def exit_code(self) -> int:
        """0 when every case was answered, 1 when some were refused."""
        return 1 if self.n_refused else 0


def evaluate(job: EvaluationJob, listener: Listener = ignore) -> Evaluation:
    """Run the model over the labelled cases and write predictions, metrics, tables and report into `job.output`.

    Raises:
        UsageError: For a manifest, model, split or output folder that cannot be used; nothing was written.
    """
    manifest = read_manifest(job.manifest)
    rows, split = choose_rows(manifest, job.split)
    check_output(job.output, job.may_overwrite)
    diagnoser = load_model(job.model, device=job.device, allow_other_graph=job.allow_other_graph)
    other = _other_predictions(job, diagnoser, rows, listener)
    controls = plan_controls(diagnoser) if job.has_controls else Controls()
    trained_on = () if job.allow_training_cases else training_cases(find_model(job.model))
    answers = answer_cases(
        diagnoser,
        rows,
        controls,
        listener,
        has_pictures=job.has_pictures,
        has_explanations=job.has_explanations,
        trained_on=trained_on,
    )
    if not answers.cases:
        raise UsageError(
            "No case of the manifest could be answered.",
            code=next(iter(answers.refused.values())).code,
            remedy=next(iter(answers.refused.values())).reason,
        )
    listener(Told("Measuring, with intervals over patients ..."))
    metrics = measure(answers, job.n_resamples)
    tables = {
        name: _tables(answers, name, job, other.get(name)) for name in (task.name for task in answers.tasks)
        if name in metrics
    }  # fmt: skip
    columns = tuple(dict.fromkeys(row.column for table in tables.values() for row in table.subgroups))
    context = Context(
        diagnoser=diagnoser, answers=answers, split=split, n_resamples=job.n_resamples, subgroup_columns=columns
    )
    _write(job.output, context, metrics, tables, job.against)
    return Evaluation(output=job.output, metrics=metrics, n_cases=len(answers.cases), n_refused=len(answers.refused))


def choose_rows(manifest: Manifest, split: str | None) -> tuple[Sequence[ManifestRow], str]:
    """Return the rows to evaluate and the split they are of, empty for all.

    Raises:
        UsageError: `config.table` for a split that the manifest does not have.
    """
    if split is None:
        split = TEST_SPLIT if any(row.split == TEST_SPLIT for row in manifest.rows) else ""
    return (manifest.of_split(split), split) if split else (manifest.rows, "")


def training_cases(model: Path) -> frozenset[str]:
    """Return the hashes of the cases that a model says it was trained on; none where it does not say."""
    try:
        found = json.loads((model / TRAINING_CASES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(item for item in found if isinstance(item, str)) if isinstance(found, list) else frozenset()


def check_output(folder: Path, may_overwrite: bool) -> None:
    """Raise where the folder holds anything that is not an earlier evaluation's, or that may not be replaced.

    Raises:
        UsageError: `config.output`.
    """
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir():
        raise UsageError("The output is a file, not a folder.", code="config.output", remedy="Choose another --out.")
    if found - set(FILES):
        raise UsageError(
            "The output folder holds files that are not of an evaluation.",
            code="config.output",
            remedy="Choose an empty folder with --out; other files are never removed.",
        )
    if found and not may_overwrite:
        raise UsageError(
            "The output folder holds an earlier evaluation.",
            code="config.output",
            remedy="Use --overwrite to replace it, or another --out.",
        )
    try:
        write_atomic(folder / ".write-test", b"medmm\n").unlink()
    except OSError as error:
        raise UsageError(f"The output folder cannot be written ({error.strerror}).", code="config.output") from None


def _other_predictions(
    job: EvaluationJob, diagnoser: Diagnoser, rows: Sequence[ManifestRow], listener: Listener
) -> dict[str, Predictions]:
    """What to compare with: the predictions of an earlier evaluation, or another model run on the same cases."""
    if not job.against:
        return {}
    earlier = Path(job.against) / "predictions.csv"
    if earlier.is_file():
        return read_predictions(earlier)
    listener(Told("First the model to compare with ..."))
    other = load_model(job.against, device=job.device, allow_other_graph=job.allow_other_graph)
    answers = answer_cases(other, rows, Controls(), listener, has_pictures=False)
    return {
        task.name: Predictions(
            classes=tuple(label.name for label in task.classes),
            by_case={case.row.case: case.probabilities[task.name] for case in answers.cases},
        )
        for task in answers.tasks
    }


def _tables(answers: Answers, name: str, job: EvaluationJob, other: Predictions | None) -> TaskTables:
    task, n = answers.of_task(name), job.n_resamples
    comparison = None
    if other is not None:
        cases = [answers.cases[row].row.case for row in task.index]
        comparison = compare(task, aligned(task, other.classes, other.by_case, cases), n)
    scored = [(score, case.row.patient) for case in answers.cases for score in case.maps]
    owners = np.array([patient for _, patient in scored], dtype=object)
    tables = TaskTables(
        subgroups=subgroups(answers, task, job.by, n),
        comparison=comparison,
        explanations=map_rows([score for score, _ in scored], owners, name, n),
    )
    if not job.has_controls:
        return tables
    is_fusion = task.task.source == "fusion"
    return replace(
        tables,
        modalities=modality_rows(answers, task, n) if is_fusion else (),
        graph=graph_rows(answers, task, n) if is_fusion else (),
        acquisition=acquisition_row(answers, task, n),
    )


def _write(
    folder: Path, context: Context, metrics: Mapping[str, Table], tables: Mapping[str, TaskTables], other: str
) -> None:
    answers = context.answers
    write_predictions(folder / "predictions.csv", answers)
    _write_json(folder / "metrics.json", to_json(metrics))
    _write_json(folder / "details.json", {name: _plain(asdict(table)) for name, table in tables.items()})
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["case", "stage", "code", "reason", "remedy"])
    for case, item in sorted(answers.refused.items()):
        writer.writerow([csv_cell(cell) for cell in (case, item.stage, item.code, item.reason, item.remedy)])
    write_atomic(folder / "failures.csv", buffer.getvalue().encode("utf-8", "replace"))
    write_page(folder / "report.html", context, metrics, tables, Path(other).name if other else "")


def _write_json(path: Path, values: object) -> None:
    write_atomic(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def _plain(value: object) -> object:
    """Nested tables as JSON has them: what is not finite is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Estimate):
        return _plain(value.to_dict())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
