"""`predictions.csv`: a row for each case and task, a column for each class with its probability.

Columns: `case`, `patient` (a number of this run, the same for cases of one patient), `task`, `truth` (empty where
unknown), `answer`, `set` (classes that cannot be excluded, joined by `|`), `abstained`, then the classes of all tasks,
empty for those of other tasks.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmm.errors import UsageError
from medmm.records import read_rows
from medmm.report.files import write_atomic
from medmm.report.table import csv_cell
from pipelines.evaluation.answers import Answers

FIXED = ("case", "patient", "task", "truth", "answer", "set", "abstained")
DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Another run's probabilities of one task by case, in the order of `classes`."""

    classes: tuple[str, ...]
    by_case: Mapping[str, np.ndarray]


def write_predictions(path: Path, answers: Answers) -> None:
    """Write the table.

    Raises:
        UsageError: `model.mismatch` where a class is called like one of the fixed columns.
    """
    classes = list(dict.fromkeys(label.name for task in answers.tasks for label in task.classes))
    clash = sorted(set(classes) & set(FIXED))
    if clash:
        raise UsageError(f"A class cannot be called {clash[0]!r} in predictions.csv.", code="model.mismatch")
    numbers = {patient: n for n, patient in enumerate(sorted({case.row.patient for case in answers.cases}), 1)}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in (*FIXED, *classes)])
    for case in sorted(answers.cases, key=lambda case: case.row.case):
        for task in answers.tasks:
            names, chances = [label.name for label in task.classes], case.probabilities[task.name]
            shown = {name: round(float(value), DECIMALS) for name, value in zip(names, chances, strict=True)}
            cells = (
                case.row.case,
                numbers[case.row.patient],
                task.name,
                case.row.labels.get(task.name, ""),
                names[int(chances.argmax())],
                "|".join(case.sets[task.name]),
                case.abstained[task.name],
                *(shown.get(name) for name in classes),
            )
            writer.writerow([csv_cell(cell) for cell in cells])
    write_atomic(path, buffer.getvalue().encode("utf-8", "replace"))


def read_predictions(path: Path) -> dict[str, Predictions]:
    """Return the table by task.

    Raises:
        UsageError: `config.table` where it is no such table.
    """
    header, *lines = read_rows(path) or [[]]
    missing = sorted({"case", "task"} - set(header))
    if missing:
        raise UsageError(f"Expected predictions with a column {missing[0]!r}.", code="config.table")
    columns = [name for name in header if name not in FIXED]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for number, cells in enumerate(lines, 2):
        row = dict(zip(header, cells, strict=False))
        try:
            chances = {name.removeprefix("'"): float(row[name]) for name in columns if row.get(name)}
        except ValueError:
            raise UsageError(
                f"Expected probabilities in line {number} of predictions.csv.", code="config.table"
            ) from None
        found.setdefault(row["task"], {})[row["case"].removeprefix("'")] = chances
    tables = {}
    for task, by_case in found.items():
        classes = tuple(next(iter(by_case.values())))
        if any(tuple(chances) != classes for chances in by_case.values()):
            raise UsageError(f"Expected the same classes in every row of task {task!r}.", code="config.table")
        tables[task] = Predictions(
            classes=classes, by_case={case: np.array(list(chances.values())) for case, chances in by_case.items()}
        )
    return tables
