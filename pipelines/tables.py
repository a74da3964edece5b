"""Tables of a run, rebuilt from its case entries: results, failures, and who is who."""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medmm.report.files import write_atomic
from medmm.report.table import csv_cell, refused_row
from pipelines.ledger import Entry

FIRST_COLUMNS = ("case", "status", "abstained", "outside_training", "ood_score", "codes")
LAST_COLUMNS = ("model", "weights_sha256", "graph_hash")
FAILURE_COLUMNS = ("case", "stage", "code", "file", "reason", "remedy")
ID_COLUMNS = ("id", "kind", "patient_id", "study_uid", "path")

Cell = str | float


def result_rows(entries: Iterable[Entry]) -> list[Mapping[str, Cell]]:
    """Rows of the results table in order of case ids, refused cases among them."""
    ordered = sorted(entries, key=lambda entry: entry.case_id)
    return [
        refused_row(entry.case_id, entry.failure.get("code", "")) if entry.status == "refused" else entry.row
        for entry in ordered
    ]


def failure_rows(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Rows of the failures table in order of case ids."""
    refused = sorted((entry for entry in entries if entry.status == "refused"), key=lambda entry: entry.case_id)
    return [{"case": entry.case_id, **entry.failure} for entry in refused]


def write_results(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write `results.csv`: columns common to all runs first and last, those of tasks and regions between."""
    middle = dict.fromkeys(name for row in rows for name in row if name not in (*FIRST_COLUMNS, *LAST_COLUMNS))
    write_atomic(path, _csv((*FIRST_COLUMNS, *middle, *LAST_COLUMNS), rows))


def write_failures(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write `failures.csv`; only its header where nothing was refused."""
    write_atomic(path, _csv(FAILURE_COLUMNS, rows))


def write_id_map(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Write `id_map.csv`, readable by its owner alone at every moment."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(_csv(ID_COLUMNS, rows))
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def join_id_maps(path: Path, parts: Iterable[Path]) -> None:
    """Write the id map of a joined run from those of its parts, each row once, in order of ids."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for part in parts:
        with part.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                rows[tuple(row.values())] = row
    write_id_map(path, sorted(rows.values(), key=lambda row: row["id"]))


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Cell]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in columns])
    writer.writerows([csv_cell(row.get(name)) for name in columns] for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")
