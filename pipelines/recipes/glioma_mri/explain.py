"""Heatmaps of the shipped model under test on the patients it was trained on: which method earns to be the default?

Where a heatmap points can be held against the masks. These are training patients, so the figures say how methods
compare on one model, and nothing about new patients.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medmm.device import is_bfloat16_fast
from medmm.diagnose import load_model
from medmm.explain.cohort import MapTests, measure_maps
from medmm.explain.volume_checks import DIES_BELOW, REPEATS_FROM
from medmm.types import Case, Record
from pipelines.recipes.glioma_mri.data import Patient, read_patients, read_volumes
from pipelines.statistics import Estimate, bootstrap

logger = logging.getLogger(__name__)
Row = dict[str, str | float | bool]
COLUMNS = {
    "points": "peak in mask",
    "mass": "mass in mask",
    "deletion": "deletion gain",
    "insertion": "insertion gain",
    "shuffled": "like that of shuffled weights",
    "repeated": "like that under noise",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is measured. `max_slices` leaves out patients with more: a volume's cost grows with them."""

    count: int
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    tests: MapTests
    max_slices: int


def measure_patients(data: Path, rows: Path, what: Measurement) -> None:
    """Append patients' scores, in a fixed random order, to a file of JSON lines; those that are there are kept.

    The trunk runs in bfloat16 where the processor has it: twice as fast.
    """
    patients = read_patients(data)
    order = np.random.default_rng(0).permutation(len(patients))
    done = {str(row["case"]) for row in read_rows([rows])} if rows.exists() else set()
    diagnoser, left = load_model("glioma-mri", device="cpu"), what.count
    for number in order:
        name = f"patient-{number:02d}"
        volumes, mask = read_volumes(patients[number])
        if mask.shape[2] > what.max_slices or not left:
            continue
        left -= 1
        if name in done:
            continue
        logger.info("%s ...", name)
        case = Case(case_id=name, volumes=volumes, record=_record(patients[number]))
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16_fast(torch.device("cpu"))):
            scores = measure_maps(diagnoser, case, mask, tasks=what.tasks, methods=what.methods, tests=what.tests)
        with rows.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(score.to_dict()) + "\n" for score in scores))


def read_rows(files: Iterable[Path]) -> list[Row]:
    """Rows of one or several files of scores; what several say of one map is put together."""
    merged: dict[tuple[object, ...], Row] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row: Row = json.loads(line)
            known = merged.setdefault((row["case"], row["task"], row["method"]), row)
            known.update({key: value for key, value in row.items() if not _is_missing(value)})
    return list(merged.values())


def _is_missing(value: str | float | bool) -> bool:
    return isinstance(value, float) and np.isnan(value)


def table(rows: Sequence[Row], task: str) -> str:
    """A Markdown table of one task: a line a method, means with 95% bootstrap intervals over patients.

    Deletion and insertion are gains over random order: how much lower, and how much higher, the mean probability is.
    """
    lines = ["| method | maps shown | " + " | ".join(COLUMNS.values()) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["task"] == task and row["method"] == method]
        shown = [row for row in own if row["has_map"]]
        cells = [f"{len(shown)} of {len(own)}", *(_cell(shown, column) for column in COLUMNS)]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    shares = np.array([float(row["mask_share"]) for row in rows if row["task"] == task])
    lines.append(f"\nThe mask fills {np.nanmean(shares):.1%} of the head on average.")
    return "\n".join(lines)


def _cell(rows: Sequence[Row], column: str) -> str:
    values = np.array([_value(row, column) for row in rows], dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    estimate: Estimate = bootstrap(lambda found: float(found.mean()), values)
    text = f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}, {len(values)})"
    if column in ("shuffled", "repeated"):
        limit = values < DIES_BELOW if column == "shuffled" else values >= REPEATS_FROM
        text += f"; passed {int(limit.sum())} of {len(values)}"
    return text


def _value(row: Row, column: str) -> float:
    if column == "deletion":
        return float(row["deletion_random"]) - float(row["deletion"])
    if column == "insertion":
        return float(row["insertion"]) - float(row["insertion_random"])
    return float(row[column])


def _record(patient: Patient) -> Record:
    values = {"age_years": patient.age, "sex": patient.sex}
    return Record(values={key: value for key, value in values.items() if value is not None})
