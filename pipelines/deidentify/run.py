"""A folder of DICOM files, and reports, to a de-identified copy: every file ends written, left out or refused."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import medmm
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.errors import InputError, UsageError
from medmm.identity import load_key
from medmm.report.files import write_atomic
from pipelines.deidentify.files import NotOurs, Written
from pipelines.deidentify.options import STANDARD, Options
from pipelines.deidentify.pixels import read_masks
from pipelines.deidentify.pseudonyms import Pseudonyms
from pipelines.deidentify.reports import People, deidentify_report, report_files
from pipelines.deidentify.worker import Child
from pipelines.output import check_apart
from pipelines.tables import write_failures, write_id_map

RECORD_NAME = "deid.json"
FAILURES_NAME = "failures.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidJob:
    """What to do. `id_map` is where the table of who is who is written (mode 0600), outside `output`; None: nowhere."""

    folder: Path
    output: Path
    options: Options = field(default_factory=Options)
    reports: Path | None = None
    id_key: Path | None = None
    id_map: Path | None = None
    workers: int = 1
    may_overwrite: bool = False
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidSummary:
    """How it ended. The counts add up to the number of files found."""

    written: int
    masked: int
    heads: int
    skipped: dict[str, int]
    refused: dict[str, int]

    @property
    def exit_code(self) -> int:
        """0 when nothing was refused, else 1."""
        return 1 if self.refused else 0


@dataclass(slots=True)
class _Tally:
    """Counts and rows of a run; safe to use from several threads."""

    people: People = field(default_factory=People)
    written: list[Written] = field(default_factory=list)
    reports: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, str]] = field(default_factory=list)
    refused: dict[str, Path] = field(default_factory=dict)  # label in the failures table to the file
    done: int = 0
    lock: Lock = field(default_factory=Lock)

    def refuse(self, error: InputError, label: str, path: Path) -> None:
        """Add a row to the failures table; which file it is stands in the id map alone."""
        self.refused[label] = path
        row = {"case": label, "stage": "deid", "code": error.code, "reason": error.message, "remedy": error.remedy}
        self.failures.append(row)


def deidentify_folder(job: DeidJob, progress: Callable[[int], None] = lambda done: None) -> DeidSummary:
    """Write a de-identified copy of every DICOM file of a folder.

    Args:
        job: What to do and where.
        progress: Is told how many files are done.
    Returns:
        The counts; they are in `deid.json` too, and what was refused in `failures.csv`.
    Raises:
        UsageError: Nothing was started: folders, key or masks cannot be used.
        StopRun: `disk.full`; what is written is complete, and the same command with overwriting goes on.
    """
    key = _check(job)
    started = datetime.now(UTC)
    tally = _Tally()
    _clean_images(job, key, tally, progress)
    if job.reports is not None:
        _clean_reports(job, key, tally)
    if job.id_map is not None:
        write_id_map(job.id_map, _id_rows(tally))
    write_failures(job.output / FAILURES_NAME, sorted(tally.failures, key=lambda row: row["case"]))
    summary = DeidSummary(
        written=len(tally.written) + tally.reports,
        masked=sum(one.is_masked for one in tally.written),
        heads=sum(one.shows_head for one in tally.written),
        skipped=dict(sorted(tally.skipped.items())),
        refused=dict(sorted(Counter(row["code"] for row in tally.failures).items())),
    )
    write_atomic(job.output / RECORD_NAME, _record(job, summary, started))
    return summary


def _check(job: DeidJob) -> bytes:
    if not job.folder.is_dir():
        raise UsageError("Expected a folder of DICOM files (there is none of this name).", code="config.key")
    check_apart(job.folder, job.output)
    if job.id_map is not None and job.output.resolve() in job.id_map.resolve().parents:
        raise UsageError(
            "The id map would lie in the output folder.",
            code="config.output",
            remedy="Write it elsewhere (--id-map): the output is what you may share.",
        )
    if job.options.masks is not None:
        read_masks(job.options.masks)
    if job.reports is not None:
        report_files(job.reports)
    key = load_key(job.id_key)
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        write_atomic(job.output / ".write-test", b"medmm\n").unlink()
        found = {path.name for path in job.output.iterdir()}
    except OSError as error:
        raise UsageError(
            f"The output folder cannot be written ({error.strerror}).",
            code="config.output",
            remedy="Choose another, or change its permissions.",
        ) from None
    if found and not (job.may_overwrite and _is_ours(found)):
        raise UsageError(
            "The output folder is not empty.",
            code="config.output",
            remedy="Choose an empty folder; --overwrite goes on with what an earlier run of this command wrote.",
        )
    write_atomic(job.output / RECORD_NAME, b"{}\n")
    return key


def _is_ours(found: set[str]) -> bool:
    return RECORD_NAME in found and all(
        name in (RECORD_NAME, FAILURES_NAME, "reports") or name.startswith("patient-") for name in found
    )


def _clean_images(job: DeidJob, key: bytes, tally: _Tally, progress: Callable[[int], None]) -> None:
    """Let each worker thread drive one child; the threads share one stream of paths."""
    paths = enumerate(find_files(job.folder, job.reports), start=1)

    def work() -> None:
        child = Child(output=job.output, key=key, options=job.options, limits=job.limits)
        try:
            while True:
                with tally.lock:
                    number, path = next(paths, (0, job.folder))
                if not number:
                    return
                _clean_one(child, path, f"file-{number:06d}", tally)
                with tally.lock:
                    tally.done += 1
                    progress(tally.done)
        finally:
            child.close()

    with ThreadPoolExecutor(job.workers) as pool:
        for future in [pool.submit(work) for _ in range(job.workers)]:
            future.result()


def _clean_one(child: Child, path: Path, label: str, tally: _Tally) -> None:
    try:
        found = child.clean(path)
    except InputError as error:
        with tally.lock:
            tally.refuse(error, label, path)
        return
    with tally.lock:
        if isinstance(found, NotOurs):
            tally.skipped[found.reason] += 1
            return
        try:
            tally.people.add(
                patient=found.patient,
                patient_id=found.patient_id,
                study_uid=found.study_uid,
                identifiers=found.identifiers,
            )
        except InputError as error:
            (child.output / found.output).unlink()
            tally.refuse(error, label, path)
            return
        tally.written.append(found)


def find_files(folder: Path, apart: Path | None = None) -> Iterator[Path]:
    """Yield everything that is no folder under `folder` in a fixed order, links to folders not followed.

    Args:
        folder: Where to look.
        apart: A folder inside that is left out, for its files are handled otherwise.
    """
    left_out = None if apart is None else apart.resolve()
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if (Path(root) / name).resolve() != left_out)
        yield from (Path(root) / name for name in sorted(names))


def _clean_reports(job: DeidJob, key: bytes, tally: _Tally) -> None:
    assert job.reports is not None
    pseudonyms = Pseudonyms(key)
    for number, (stem, path) in enumerate(report_files(job.reports).items(), start=1):
        try:
            deidentify_report(stem, path, tally.people, pseudonyms, job.output)
        except InputError as error:
            tally.refuse(error, f"report-{number:06d}", path)
        else:
            tally.reports += 1


def _id_rows(tally: _Tally) -> list[dict[str, str]]:
    rows = {(one.patient, one.patient_id, one.study_uid, one.output.split("/")[1]): None for one in tally.written}
    studies = [
        {"id": study, "kind": f"study of {patient}", "patient_id": patient_id, "study_uid": uid, "path": ""}
        for patient, patient_id, uid, study in sorted(rows)
    ]
    refused = [
        {"id": label, "kind": "refused", "patient_id": "", "study_uid": "", "path": os.fspath(path)}
        for label, path in sorted(tally.refused.items())
    ]
    return studies + refused


def _record(job: DeidJob, summary: DeidSummary, started: datetime) -> bytes:
    """What was done, without a word of the input."""
    values = {
        "medmm": medmm.__version__,
        "standard": STANDARD,
        "methods": [list(method) for method in job.options.methods(has_clean_pixels=summary.masked > 0)],
        "written": summary.written,
        "masked": summary.masked,
        "images_of_the_head": summary.heads,
        "skipped": summary.skipped,
        "refused": summary.refused,
        "started_utc": started.isoformat(timespec="seconds"),
        "ended_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "research_use": "Check a sample before sharing: rules do not see faces, handwriting or text in pixels.",
    }
    return json.dumps(values, indent=1).encode() + b"\n"
