"""Explanations of the model under test on cases that it never saw: words, evidence paths, and whether shares add up."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medmm.diagnose import Diagnoser
from medmm.explain.graph_checks import check_paths
from medmm.explain.text_checks import check_words
from medmm.results import NOTICEABLE
from medmm.types import Case
from pipelines.recipes.radiology_cases.cases import CaseInput
from pipelines.recipes.radiology_cases.multimodal.reading import to_case
from pipelines.statistics import bootstrap

logger = logging.getLogger(__name__)
Row = dict[str, str | float]
SHARES = "shares add up"
# Less than at random is better for sufficiency: what the important words alone lose.
_LESS_IS_BETTER = ("word sufficiency",)


def measure_cases(diagnoser: Diagnoser, cases: Sequence[CaseInput], images: Path, rows: Path, count: int) -> None:
    """Append the scores of some cases, in a fixed random order, to a file of JSON lines; those that are there stay."""
    done = {str(row["case"]) for row in read_rows(rows)} if rows.exists() else set()
    for number in np.random.default_rng(0).permutation(len(cases))[:count]:
        case = cases[int(number)]
        if case.id in done:
            continue
        logger.info("%s ...", case.id)
        found = measure_case(diagnoser, to_case(case, images))
        with rows.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(row) + "\n" for row in found))


def measure_case(diagnoser: Diagnoser, case: Case) -> list[Row]:
    """Return one row a task and test: `value` beside `reference`, which is the same at random.

    For `shares add up` the value is the sum of the modalities' shares and the baseline, the reference the probability.
    """
    reader, view = diagnoser.reader, diagnoser.view(case)
    diagnosis = diagnoser.diagnose(case)
    explained = diagnoser.explain(case, diagnosis, "fast")
    rows: list[Row] = []
    for task in reader.model.labels.fusion_tasks():
        why, answer = explained.tasks[task.name], diagnosis.tasks[task.name]
        target = task.index(why.target)
        checks = check_words(reader, view, task, target, why.words, np.random.default_rng(0))
        checks += check_paths(reader, view, task, target, why.paths, np.random.default_rng(0))
        total = why.baseline_probability + sum(part.share for part in why.modalities)
        scores = [(check.name, check.value, check.reference) for check in checks]
        scores.append((SHARES, total, float(answer.probabilities[target])))
        rows += [
            {"case": case.case_id, "task": task.name, "test": name, "value": value, "reference": reference}
            for name, value, reference in scores
        ]
    return rows


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that `measure_cases` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(rows: Sequence[Row]) -> str:
    """Return Markdown: a line a task and test, means with 95% bootstrap intervals over cases."""
    lines = [
        "| task | test | cases | as explained | at random | gain (95% interval) | passed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = dict.fromkeys((str(row["task"]), str(row["test"])) for row in rows)
    for task, test in (name for name in names if name[1] != SHARES):
        own = [row for row in rows if (row["task"], row["test"]) == (task, test)]
        value, reference = (np.array([float(row[column]) for row in own]) for column in ("value", "reference"))
        gain = reference - value if test in _LESS_IS_BETTER else value - reference
        mean = bootstrap(lambda found: float(found.mean()), gain)
        lines.append(
            f"| {task} | {test} | {len(own)} | {value.mean():.3f} | {reference.mean():.3f} "
            f"| {mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f}) | {int((gain >= NOTICEABLE).sum())} |"
        )
    gaps = [abs(float(row["value"]) - float(row["reference"])) for row in rows if row["test"] == SHARES]
    if gaps:
        lines.append(f"\nShares and baseline add up to the probability within {max(gaps):.1e} in {len(gaps)} answers.")
    return "\n".join(lines)
