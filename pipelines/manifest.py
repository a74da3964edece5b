"""Manifests: a CSV with a row per case, for training, evaluation and research data. Paths are relative to the file.

Columns (`case` and one of `volumes`, `report`, `report_text` are needed; unknown ones are refused):
    case              name of the case, unique
    patient           whose case it is, so that splits keep patients together; the case itself where there is none
    volumes           `role=path;role=path`, or paths alone (role `volume`, or `volume-1`, `volume-2`, ... where there
                      are several): DICOM folder, NIfTI, PNG or JPEG
    report            path of a report; or `report_text`, the text itself
    split             for example train, test
    record.<name>     a field of the record
    label.<task>      the right answer, as `pipelines.labels` reads it
    mask              path of a NIfTI mask
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medmm.errors import InputError, UsageError
from medmm.records import read_rows, record_of
from medmm.report_reading import is_empty, read_report, report_from_text
from medmm.types import Case, Note, Report, Volume

FIXED = ("case", "patient", "volumes", "report", "report_text", "split", "mask")
PREFIXES = ("record.", "label.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One case of a manifest. Labels and mask are for training and evaluation; `read` leaves them out."""

    case: str
    patient: str
    volumes: Mapping[str, Path] = field(default_factory=dict)
    report: Path | None = None
    report_text: str = ""
    split: str = ""
    record: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    mask: Path | None = None

    def read(self) -> Case:
        """Return the case with its pixels.

        Raises:
            InputError: What is wrong with a file; see `medmm.read_volume` and `medmm.read_report`.
        """
        from medmm.dicom.volume import read_volume

        volumes: dict[str, Volume] = {role: read_volume(path) for role, path in self.volumes.items()}
        hashes = {role: _hash_of(path) for role, path in self.volumes.items()}
        report, notes = self._read_report()
        record = record_of(self.record, self.record) if self.record else None
        if report is not None:
            hashes["report"] = hashlib.sha256(report.text.encode()).hexdigest()
        if record is not None:
            hashes["record"] = hashlib.sha256(json.dumps(dict(record.values), sort_keys=True).encode()).hexdigest()
        return Case(
            case_id=self.case,
            volumes=volumes,
            report=report,
            record=record,
            notes=notes,
            input_hashes=dict(sorted(hashes.items())),
        )

    def _read_report(self) -> tuple[Report | None, tuple[Note, ...]]:
        if self.report is None and not self.report_text.strip():
            return None, ()
        report = read_report(self.report) if self.report is not None else report_from_text(self.report_text)
        return (None, report.notes) if is_empty(report) else (report, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All rows, in the order of the file."""

    rows: tuple[ManifestRow, ...]

    def of_split(self, split: str) -> tuple[ManifestRow, ...]:
        """Rows of one split.

        Raises:
            UsageError: `config.table` where there is none, naming the splits there are.
        """
        found = tuple(row for row in self.rows if row.split == split)
        if not found:
            names = sorted({row.split for row in self.rows if row.split}) or ["none"]
            raise UsageError(
                f"The manifest has no case of split {split!r} (it has: {', '.join(names)}).", code="config.table"
            )
        return found

    def labels_of(self, task: str) -> Mapping[str, str]:
        """The right answers to one task by case; cases without one are left out."""
        return {row.case: row.labels[task] for row in self.rows if row.labels.get(task)}


def read_manifest(path: str | Path) -> Manifest:
    """Return a manifest; files are named, not opened.

    Raises:
        UsageError: `config.table`: the file cannot be read, a column is unknown or missing, a case is there twice, a
            patient is in two splits, or `volumes` is malformed; the line is named.
    """
    place = Path(path)
    header, *lines = read_rows(place) or [[]]
    columns = [name.strip() for name in header]
    _check_columns(columns)
    rows = [
        _row(dict(zip(columns, cells, strict=False)), number, place.parent) for number, cells in enumerate(lines, 2)
    ]
    _check_rows(rows)
    return Manifest(rows=tuple(rows))


def parse_volumes(text: str, folder: Path) -> dict[str, Path]:
    """Return `role=path;role=path` as paths by role; paths alone are `volume`, or numbered where there are several.

    Raises:
        ValueError: For a part without a path, or a role twice.
    """
    found: dict[str, Path] = {}
    parts = [part.strip() for part in text.split(";") if part.strip()]
    are_many = sum("=" not in part for part in parts) > 1
    for rank, part in enumerate(parts, 1):
        role, equals, name = part.partition("=")
        alone = f"volume-{rank}" if are_many else "volume"
        role, name = (role.strip(), name.strip()) if equals else (alone, part)
        if not role or not name:
            raise ValueError("expected role=path;role=path")
        if role in found:
            raise ValueError(f"the role {role[:40]!r} is there twice")
        found[role] = folder / name
    return found


def _row(cells: Mapping[str, str], number: int, folder: Path) -> ManifestRow:
    case = cells.get("case", "").strip()
    if not case:
        raise _table_error(f"line {number} has no case")
    try:
        volumes = parse_volumes(cells.get("volumes", ""), folder)
    except ValueError as error:
        raise _table_error(f"line {number}: {error}") from None
    report, mask = cells.get("report", "").strip(), cells.get("mask", "").strip()
    return ManifestRow(
        case=case,
        patient=cells.get("patient", "").strip() or case,
        volumes=volumes,
        report=folder / report if report else None,
        report_text=cells.get("report_text", ""),
        split=cells.get("split", "").strip(),
        record=_with_prefix(cells, "record."),
        labels=_with_prefix(cells, "label."),
        mask=folder / mask if mask else None,
    )


def _with_prefix(cells: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): cell.strip() for name, cell in cells.items() if name.startswith(prefix)}


def _check_columns(columns: list[str]) -> None:
    unknown = [name for name in columns if name not in FIXED and not name.startswith(PREFIXES)]
    if unknown:
        raise _table_error(f"unknown column {unknown[0][:40]!r}; known are {', '.join(FIXED)}, record.*, label.*")
    if len(columns) != len(set(columns)):
        raise _table_error("a column is there twice")
    if "case" not in columns or not {"volumes", "report", "report_text"} & set(columns):
        raise _table_error("it needs a column `case` and one of `volumes`, `report`, `report_text`")


def _check_rows(rows: Iterable[ManifestRow]) -> None:
    cases: set[str] = set()
    splits: dict[str, str] = {}
    for row in rows:
        if row.case in cases:
            raise _table_error("a case is there twice; give each row a name of its own")
        cases.add(row.case)
        if splits.setdefault(row.patient, row.split) != row.split:
            raise _table_error("a patient is in two splits, so that training would see test patients")


def _table_error(what: str) -> UsageError:
    return UsageError(f"The manifest cannot be used: {what}.", code="config.table")


def _hash_of(path: Path) -> str:
    """SHA-256 of a file, or over the sorted SHA-256 of all files of a folder."""
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digests = []
    for file in files:
        try:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except FileNotFoundError:
            raise InputError("A file of the manifest is not there.", code="io.unreadable") from None
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
