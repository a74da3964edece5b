"""Which report belongs to which study. Reading a report is `report_reading`'s business.

Candidates, the first kind that has one wins and the others are listed in a note:
    1. `reports`, a folder: `<Study Instance UID>.txt`, then `<Patient ID>.txt`;
       or a table (`records.read_table`) with a column `report`, `report_text` or `text`;
    2. `report*.txt` in a folder that holds files of this study only (the last by name);
    3. structured reports (SR) among the study's DICOM files: complete before partial, then the newest content date.

A report that is named by its patient cannot be told apart between that patient's studies: with several studies it is
refused for each (`identity.conflict`) unless a better candidate exists.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medmm.dicom.types import Study
from medmm.errors import InputError, UsageError
from medmm.records import TEXT_COLUMNS, Table, read_table, text_of
from medmm.report_reading import is_empty, read_report, report_from_text
from medmm.types import Note, Report

_TEXT_SUFFIXES = (".txt", ".text")
_DECLARED_PATIENT = re.compile(r"^\s*patient(?:\s+id)?\s*:\s*(?P<id>\S+)", re.IGNORECASE | re.MULTILINE)
_HEADER_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSource:
    """Where a study's report is: a file, or the text of a table's cell. `notes` list what else there was."""

    path: Path | None = field(default=None, repr=False)
    text: str = field(default="", repr=False)
    notes: tuple[Note, ...] = ()

    def read(self) -> Report:
        """Return the report. See `report_reading.read_report` for errors."""
        if self.path is not None:
            return read_report(self.path)
        report = report_from_text(self.text)
        return Report(text=report.text, sections=report.sections, origin="table", notes=report.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportShelf:
    """All reports that were given beside the studies: a table, or files by the stem of their name."""

    table: Table | None = None
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)
    repeated: frozenset[str] = field(default=frozenset(), repr=False)

    def find(self, study: Study, *, is_only_study: bool) -> ReportSource | None:
        """Return the report given for `study`; `is_only_study` when its patient has no other one here.

        Raises:
            InputError: `identity.conflict` where the report cannot be told to be this study's.
        """
        if self.table is not None:
            row = self.table.find(study_uid=study.study_uid, patient_id=study.patient_id)
            if row is None or not text_of(row.cells).strip():
                return None
            if row.by_patient and not is_only_study:
                raise _ambiguous()
            return ReportSource(text=text_of(row.cells))
        for key, by_patient in ((study.study_uid, False), (study.patient_id.strip(), True)):
            if key in self.repeated:
                raise InputError(
                    "Two report files have the name of this patient or study.",
                    code="identity.conflict",
                    remedy="Keep one, or name them by study UID.",
                )
            if key and key in self.files:
                if by_patient and not is_only_study:
                    raise _ambiguous()
                return ReportSource(path=self.files[key])
        return None

    def unmatched(self, studies: Iterable[Study]) -> int:
        """How many of the given reports belong to none of `studies`."""
        keys = {key for study in studies for key in (study.study_uid, study.patient_id.strip())}
        given = set(self.files) if self.table is None else set(self.table.rows)
        return len(given - keys)


def open_shelf(reports: str | Path | None) -> ReportShelf:
    """Return the reports of a folder or table, none read yet.

    Raises:
        UsageError: `config.table` where there is no such folder or table, or the table lacks a needed column.
    """
    if reports is None:
        return ReportShelf()
    place = Path(reports)
    if place.is_file():
        return ReportShelf(table=read_table(place, needs=TEXT_COLUMNS))
    if not place.is_dir():
        raise UsageError(
            "Expected a folder of .txt files or a CSV table of reports (found neither).",
            code="config.table",
            remedy="Check the path given for the reports.",
        )
    files: dict[str, Path] = {}
    repeated = set()
    for path in sorted(place.rglob("*")):
        if path.suffix.lower() in _TEXT_SUFFIXES and path.is_file():
            key = path.name[: -len(path.suffix)].strip()
            if key in files:
                repeated.add(key)
            files[key] = path
    return ReportShelf(files=files, repeated=frozenset(repeated))


def match_report(
    study: Study, shelf: ReportShelf, *, is_only_study: bool, own_folders: Iterable[Path]
) -> ReportSource | None:
    """Return the report of `study` by the module's rules; `own_folders` hold files of no other study.

    Raises:
        InputError: `identity.conflict` where the given report cannot be told to be this study's.
    """
    beside = [
        path
        for folder in sorted(set(own_folders))
        for path in sorted(folder.iterdir())
        if path.name.lower().startswith("report") and path.suffix.lower() in _TEXT_SUFFIXES and path.is_file()
    ]
    structured = sorted(study.reports, key=lambda item: (item.is_final, item.content_date, item.sop_uid))
    given = shelf.find(study, is_only_study=is_only_study)
    candidates = [*([given] if given is not None else [])]
    candidates += [ReportSource(path=path) for path in reversed(beside)]
    candidates += [ReportSource(path=item.path) for item in reversed(structured)]
    if not candidates:
        return None
    notes = _choice_note(given is not None, len(beside), len(structured))
    return ReportSource(path=candidates[0].path, text=candidates[0].text, notes=notes)


def read_matched(source: ReportSource, own_id: str, other_ids: frozenset[str]) -> "ReadReport":
    """Return a study's report, or None with the reason where it has no content.

    Args:
        source: From `match_report`.
        own_id: The patient's id.
        other_ids: Patient ids of all other studies: a report whose head declares one of them is not this patient's.
    Raises:
        InputError: `identity.conflict` for another patient's report; what reading raises.
    """
    report = source.read()
    declared = _DECLARED_PATIENT.search(report.text[:_HEADER_CHARACTERS])
    if declared and declared["id"] != own_id and declared["id"] in other_ids:
        raise InputError(
            "The head of the report names another patient of these studies.",
            code="identity.conflict",
            remedy="Check which report belongs to this study.",
        )
    if is_empty(report):
        return ReadReport(None, (*source.notes, *report.notes))
    return ReadReport(report, source.notes)


@dataclass(frozen=True, slots=True)
class ReadReport:
    """A report, or None where it has no content, and notes for the case."""

    report: Report | None
    notes: tuple[Note, ...]


def _choice_note(has_given: bool, beside: int, structured: int) -> tuple[Note, ...]:
    kinds = [
        *(["the given report"] if has_given else []),
        *([f"{beside} text file{'s' * (beside > 1)} beside the images"] if beside else []),
        *([f"{structured} structured report{'s' * (structured > 1)}"] if structured else []),
    ]
    if has_given + beside + structured < 2:
        return ()
    return (Note("report.choice", f"Several reports: {', '.join(kinds)}. The first kind was used, its newest."),)


def _ambiguous() -> InputError:
    return InputError(
        "The report is named by its patient, who has several studies here.",
        code="identity.conflict",
        remedy="Name the report by its Study Instance UID, or key the table by study_uid.",
    )
