"""One case on the disk: its folder appears by one rename, complete, and its ledger entry says what is in it."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmm.cases import CasePlan
from medmm.errors import InputError, StopRun
from medmm.report.content import CaseReport
from medmm.report.writers import DICOM_FORMATS
from medmm.types import Note
from pipelines.config import RunConfig
from pipelines.engine import Refused, StageClock, attempt
from pipelines.judge import Judged
from pipelines.ledger import Entry
from pipelines.output import OutputFolder, Owner

# Notes that say how something was done; they are no reason for the reader to doubt the result.
INFORMATIVE = frozenset(("series.choice", "record.source"))
# Refusals that may pass with time or on another machine: tried again on resume.
_PASSING = ("io.", "limit.", "internal.")
# What to do where the error itself does not say, by the first part of its code.
_REMEDIES = {
    "decode": "Export the series again, uncompressed.",
    "dicom": "Export the study again from the archive, or take the named files out of it.",
    "identity": "Correct the ids, or run the patients apart.",
    "image": "Check the series in a viewer; export the original images, not derived ones.",
    "io": "Check the disk, then run again with --resume.",
    "limit": "Raise the limit with --set if the file is trusted, or leave the study out.",
    "modality": "Add what is missing, or use a model that works without it.",
    "report": "Give the report as plain text, one per study.",
    "series": "Export the whole series again; `medmm check` shows what was found.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A case whose folder is in place."""

    row: Mapping[str, Any]
    outputs: Mapping[str, int]
    inputs: Mapping[str, str]
    notes: tuple[tuple[str, str], ...]
    is_warned: bool


@dataclass(frozen=True, slots=True)
class CaseWriter:
    """Writes cases of one run, that of `owner`."""

    folder: OutputFolder
    owner: Owner
    config: RunConfig
    clock: StageClock

    def write(self, plan: CasePlan, judged: Judged) -> Written | Refused:
        """Write a case's files, or say why that failed.

        Raises:
            StopRun: `disk.full`; `run.interrupted` where the writer's run does not hold the folder any more.
        """
        return attempt("write", lambda: self._write(plan, judged), self.clock)

    def _write(self, plan: CasePlan, judged: Judged) -> Written:
        staging = self.folder.staging(plan.case_id)
        try:
            return self._write_in(staging, plan, judged)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # there only if something failed; it would take up space

    def _write_in(self, staging: Path, plan: CasePlan, judged: Judged) -> Written:
        staging.mkdir(parents=True)
        report = judged.explanation.report().with_run(config_sha256=self.config.digest, seed=self.config.seed)
        if self.config.withhold_images:
            report = report.without_images()
        notes = (*judged.notes, *self._save(report, staging, plan))
        outputs = {
            path.relative_to(staging).as_posix(): path.stat().st_size
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        if not self.owner.holds(self.folder):
            raise StopRun(
                "This run does not hold the output folder any more.",
                code="run.interrupted",
                remedy="Where another run has taken it over, let that finish; else run again with --resume.",
            )
        put_in_place(staging, self.folder.case(plan.case_id))
        is_warned = any(note.code not in INFORMATIVE for note in notes)
        return Written(
            row=case_row(judged, notes, is_warned),
            outputs=outputs,
            inputs=judged.explanation.case.input_hashes,
            notes=tuple((note.code, note.message) for note in notes),
            is_warned=is_warned,
        )

    def _save(self, report: CaseReport, staging: Path, plan: CasePlan) -> tuple[Note, ...]:
        """Write every format; where the source does not allow a DICOM result, say so and keep the rest."""
        for formats in (
            [name for name in self.config.formats if name not in DICOM_FORMATS],
            [name for name in self.config.formats if name in DICOM_FORMATS],
        ):
            try:
                if formats:
                    report.save(
                        staging,
                        formats=formats,
                        lang=self.config.lang,
                        include_report_text=self.config.include_report_text,
                        sources=plan.series,
                    )
            except InputError as error:
                if error.code != "output.source":
                    raise
                return (Note(error.code, error.message),)
        return ()


def case_row(judged: Judged, notes: tuple[Note, ...], is_warned: bool) -> dict[str, Any]:
    """The cells of a case in the results table."""
    from medmm.report.table import result_row

    codes = sorted({note.code for note in notes if note.code not in INFORMATIVE})
    row = result_row(judged.explanation.diagnosis)
    return row | {"status": "warn" if is_warned else "ok", "codes": " ".join(codes)}


def close_case(plan: CasePlan, result: Written | Refused) -> Entry:
    """Return the ledger entry of a case."""
    if isinstance(result, Refused):
        failure = {
            "stage": result.stage,
            "code": result.code,
            "file": next(iter(sorted(plan.broken_files)), ""),
            "reason": result.reason,
            "remedy": result.remedy or _REMEDIES.get(result.code.partition(".")[0], "Leave the study out."),
        }
        return Entry(case_id=plan.case_id, status="refused", stamp=stamp_of(plan), failure=failure)
    return Entry(
        case_id=plan.case_id,
        status="warn" if result.is_warned else "ok",
        stamp=stamp_of(plan),
        inputs=result.inputs,
        row=result.row,
        outputs=result.outputs,
        notes=result.notes,
    )


def may_pass(code: str) -> bool:
    """Whether a case that was refused with this code may do better the next time."""
    return code.startswith(_PASSING)


def is_kept(entry: Entry, folder: OutputFolder) -> bool:
    """Whether what the ledger says still holds: the files are there in full size, the fault is no passing one."""
    if entry.status == "refused":
        return not may_pass(entry.failure.get("code", ""))
    place = folder.case(entry.case_id)
    try:
        return all((place / name).stat().st_size == size for name, size in entry.outputs.items())
    except OSError:
        return False


def stamp_of(plan: CasePlan) -> str:
    """A hash that changes with a size or time of an input file, with the record, or with what is known to be wrong."""
    files = sorted(
        (str(path), status.st_size, status.st_mtime_ns)
        for path in (*plan.files, *plan.broken_files.values())
        if (status := _status(path)) is not None
    )
    record = sorted(plan.record.values.items()) if plan.record is not None else []
    told = plan.report.text if plan.report is not None else ""
    problem = plan.problem.code if plan.problem is not None else ""
    content = json.dumps([[place[1:] for place in files], record, told, problem, sorted(plan.series)])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def put_in_place(staging: Path, final: Path) -> None:
    """Rename a complete folder to its place, where another worker may put the same case at the same time.

    What is there is moved aside first and removed afterwards, so that the place is empty between two renames only.
    """
    for folder in sorted({path.parent for path in staging.rglob("*")} | {staging}):
        _sync(folder)
    aside = staging.with_name(f"{staging.name}-old")
    while True:
        with suppress(FileNotFoundError):
            final.rename(aside)
        try:
            staging.rename(final)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(aside, ignore_errors=True)
    _sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
