"""A case as a row of `results.csv`, and cells that a spreadsheet takes for text.

Columns: `case`, `status` (ok, warn, refused), `abstained`, `outside_training`, `ood_score`, `codes`; for each task
`<task>`, `<task>.probability`, `<task>.set`, `<task>.abstained`, and `<task>.p.<class>` for each class; for a number or
a time `<task>.value`, `.low` and `.high` (empty where it is beyond the last one known); for each region `<region>.ml`
(empty where the voxel size is unknown); `model`, `weights_sha256`, `graph_hash`. Refused cases have `case`, `status`
and `codes`.
"""

from medmm.report.grids import is_placed
from medmm.report.rounding import rounded
from medmm.results import Diagnosis, TaskResult

# A spreadsheet takes text that starts so for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
# Rankings can have thousands of classes; a row keeps the best.
_CLASSES_IN_ROW = 25


def csv_cell(value: str | float | int | bool | None) -> str:
    """Return the text of a cell: numbers as they are, text that could be a formula with `'` in front.

    >>> [csv_cell(cell) for cell in ("=1+1", "-3", -3.5, True, None, "G2")]
    ["'=1+1", "'-3", '-3.5', 'true', '', 'G2']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    text = value.encode("utf-8", errors="replace").decode("utf-8").replace("\x00", "")
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def result_row(diagnosis: Diagnosis) -> dict[str, str | float]:
    """The row of a diagnosed case; numbers are rounded by the rule of `rounding.py`."""
    outside = diagnosis.out_of_distribution
    row: dict[str, str | float] = {
        "case": diagnosis.case_id,
        "status": "warn" if diagnosis.notes else "ok",
        "abstained": _claim(diagnosis.abstained),
        "outside_training": "" if outside is None else _claim(outside.is_flagged),
        "ood_score": "" if outside is None else rounded(outside.score),
        "codes": " ".join(sorted({note.code for note in diagnosis.notes})),
    }
    for name, result in diagnosis.tasks.items():
        row.update(_task_cells(name, result))
    for name, region in diagnosis.regions.items():
        row[f"{name}.ml"] = rounded(region.volume_ml) if is_placed(region.affine_ras, region.mask.shape) else ""
    model = diagnosis.model
    row["model"] = f"{model.name} {model.version}"
    row["weights_sha256"] = model.weights_sha256
    row["graph_hash"] = model.graph_hash
    return row


def refused_row(case_id: str, code: str) -> dict[str, str | float]:
    """The row of a case that was not diagnosed; why is in `failures.csv`."""
    return {"case": case_id, "status": "refused", "codes": code}


def _task_cells(name: str, result: TaskResult) -> dict[str, str | float]:
    ranked = sorted(zip(result.classes, result.probabilities, strict=True), key=lambda pair: -float(pair[1]))
    kept = {label.name for label, _ in ranked[:_CLASSES_IN_ROW]}
    cells: dict[str, str | float] = {
        name: result.prediction,
        f"{name}.probability": rounded(result.confidence),
        f"{name}.set": "|".join(result.prediction_set),
        f"{name}.abstained": _claim(result.abstained),
    }
    if (estimate := result.estimate) is not None:
        for part, number in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high)):
            cells[f"{name}.{part}"] = "" if number is None else rounded(number)
    for label, probability in zip(result.classes, result.probabilities, strict=True):
        if label.name in kept:
            cells[f"{name}.p.{label.name}"] = rounded(probability)
    return cells


def _claim(is_true: bool) -> str:
    return "true" if is_true else "false"
