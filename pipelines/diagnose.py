"""Diagnose a folder of studies: from DICOM files and reports to results that never lose a case.

`diagnose_folder` is the whole way. What a case may do wrong ends in `failures.csv`; what must not happen to a batch
(a full disk, a signal) ends the run in a state that `resume` continues.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medmm.cases import CaseList, CasePlan, find_cases
from medmm.errors import UsageError
from medmm.identity import load_key, shard_of
from medmm.records import read_table
from medmm.report_matching import open_shelf
from pipelines.case_output import close_case, is_kept, stamp_of
from pipelines.config import RunConfig, RunLimits
from pipelines.engine import StopSwitch, listening
from pipelines.events import CaseDone, Found, Listener, RunSummary, Told, ignore
from pipelines.judge import Load
from pipelines.ledger import Entry, Fingerprint, Ledger, LedgerState, read_ledger
from pipelines.output import OutputFolder, Owner, check_apart, clear, clear_staging, locked, prepare
from pipelines.provenance import RunRecord, fingerprint_of
from pipelines.redaction import identifiers, redacting
from pipelines.runners import OpenRunner, Runner, Setting, open_runner

if TYPE_CHECKING:
    from medmm.diagnose import ModelSpec


class NoStudyError(UsageError):
    """The folder holds no study (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One batch run. `shard` is (i, n): only the studies of part i of n, 1-based.

    `index` remembers headers from run to run. `device`: see `pipelines.runners.devices_of`. `ready` are the files that
    may be read, for folders that still fill: a study with any other file waits. None for folders that are complete.
    `not_yet` are cases whose refusal stands for now, although it may pass.
    """

    folder: Path
    output: Path
    reports: Path | None = None
    records: Path | None = None
    config: RunConfig = field(default_factory=RunConfig)
    limits: RunLimits = field(default_factory=RunLimits)
    workers: int = 1
    engine: Literal["local", "ray"] = "local"
    device: str = "auto"
    shard: tuple[int, int] = (1, 1)
    may_resume: bool = False
    may_overwrite: bool = False
    id_key: Path | None = None
    index: Path | None = None
    ready: frozenset[str] | None = field(default=None, repr=False)
    not_yet: frozenset[str] = field(default=frozenset(), repr=False)


def diagnose_folder(
    job: Job,
    load: Load,
    listen: Listener = ignore,
    switch: StopSwitch | None = None,
    open_runner: OpenRunner = open_runner,
) -> RunSummary:
    """Diagnose every study of a folder and write results, failures, reports and the record of the run.

    Args:
        job: What to do and where.
        load: Puts the model on a device; called once the output folder is known to be usable. For several devices it
            has to be picklable, as `ModelSource` is.
        listen: Is told what happens.
        switch: Ends the run in order when turned on; Ctrl-C and SIGTERM turn it on.
        open_runner: Where the model is loaded and cases are worked on.
    Returns:
        The counts, times and peak memory; they are in `run.json` too.
    Raises:
        UsageError: Nothing was started: folders, tables, settings or model cannot be used.
        StopRun: The disk is full or the run was stopped; what is finished is kept and `may_resume` goes on.
    """
    check_inputs(job)
    folder = prepare(job.output, may_continue=job.may_resume, may_overwrite=job.may_overwrite)
    setting = Setting(folder=folder, owner=Owner.here(), config=job.config, limits=job.limits, workers=job.workers)
    with locked(folder), listening(switch or StopSwitch()) as stop:
        before = read_ledger(folder.ledger) if job.may_resume else LedgerState()
        with open_runner(job.engine, load, setting, job.device) as runner, listening(stop):  # Ray listens to SIGTERM
            stop.raise_if_on()
            listen(Told(f"Model {runner.spec.name} {runner.spec.version} on device {runner.device}."))
            return run_batch(job, runner, before, listen, stop)


def run_batch(job: Job, runner: Runner, before: LedgerState, listen: Listener, stop: StopSwitch) -> RunSummary:
    """Diagnose the cases that are not done, and write the tables; see `diagnose_folder`."""
    folder = OutputFolder(job.output)
    fingerprint = fingerprint_of(runner.spec, runner.device, job.config, job.shard)
    check_same_run(before, fingerprint)
    cases = find_studies(job, runner.spec)
    stop.raise_if_on()
    if job.may_overwrite:
        clear(folder)
    clear_staging(folder)
    record = RunRecord.start(folder, job.config, fingerprint, runner.spec.titles, cases, workers=job.workers)
    done = finished(cases.plans, before, folder, job.not_yet)
    tell_what_is_there(cases, done, before if job.ready is None else LedgerState(), listen)
    entries = dict(done)
    with Ledger(folder.ledger) as ledger, redacting(identifiers(cases.plans)):
        ledger.begin(fingerprint, runner.spec.titles)
        ledger.plan(tuple(plan.case_id for plan in cases.plans))
        todo = [plan for plan in cases.plans if plan.case_id not in done]
        for outcome in runner.run(todo, record.clock, stop):
            entry = close_case(outcome.plan, outcome.result)
            ledger.add(entry)
            entries[entry.case_id] = entry
            listen(_told(entry, len(entries) - len(done)))
    clear_staging(folder)  # a worker that was lost in the middle of a case leaves its half
    record.close(entries.values(), done_before=len(done))
    if len(entries) < len(cases.plans):
        stop.raise_if_on()
    return record.summary


def check_inputs(job: Job) -> None:
    """Raise for what can be known to be wrong before a model is loaded.

    Raises:
        UsageError: `config.key`, `config.table`, `config.output`.
    """
    if not job.folder.is_dir():
        raise UsageError(
            "Expected a folder of DICOM studies (there is none of this name).",
            code="config.key",
            remedy="Check the path.",
        )
    check_apart(job.folder, job.output)
    open_shelf(job.reports)
    if job.records is not None:
        read_table(job.records)
    if job.index is not None and (job.index.is_dir() or not os.access(job.index.parent, os.W_OK)):
        raise UsageError(
            "The index of headers cannot be written.",
            code="config.output",
            remedy="Name a file in a folder that is there and yours (--index).",
        )


def find_studies(job: Job, spec: "ModelSpec") -> CaseList:
    """Return the cases of this run's shard.

    Raises:
        UsageError: `config.key` where the folder holds no study at all; `config.table` for unusable tables.
    """
    key = load_key(job.id_key)
    cases = find_cases(
        job.folder,
        reports=job.reports,
        records=job.records,
        roles=spec.roles,
        record_fields=spec.record_fields,
        id_key=key,
        limits=job.limits.for_dicom(),
        index=job.index,
    )
    if not cases.plans:
        raise NoStudyError(
            f"There is no DICOM study in the folder ({len(cases.skipped)} files are of other kinds).",
            code="config.key",
            remedy="Check the path; `medmm check FOLDER` lists what was found.",
        )
    number, count = job.shard
    mine = tuple(plan for plan in cases.plans if shard_of(_shard_key(plan), count) == number)
    complete = tuple(plan for plan in mine if _is_ready(plan, job.ready))
    if mine and not complete:
        raise NoStudyError("No study in the folder is complete yet.", code="config.key")
    return replace(cases, plans=complete)


def check_same_run(before: LedgerState, now: Fingerprint) -> None:
    """Raise if the folder holds the results of another model or configuration.

    Raises:
        UsageError: `config.output`, naming what differs.
    """
    if before.fingerprint is not None and before.fingerprint.digest != now.digest:
        raise UsageError(
            f"The earlier run in the output folder differs in: {', '.join(before.fingerprint.differences(now))}.",
            code="config.output",
            remedy="Use the same options to resume it, --overwrite to replace it, or another --out.",
        )


def finished(
    plans: Iterable[CasePlan], before: LedgerState, folder: OutputFolder, not_yet: frozenset[str] = frozenset()
) -> dict[str, Entry]:
    """Return the entries of cases that need not be done again: same input files, outputs in place, no passing fault.

    Of the cases of `not_yet` passing faults are kept too.
    """
    done = {}
    for plan in plans:
        entry = before.entries.get(plan.case_id)
        if entry is None or entry.stamp != stamp_of(plan):
            continue
        waits = entry.status == "refused" and plan.case_id in not_yet
        if waits or is_kept(entry, folder):
            done[plan.case_id] = entry
    return done


def tell_what_is_there(cases: CaseList, done: Mapping[str, Entry], before: LedgerState, listen: Listener) -> None:
    """Report what was found, what an earlier run finished, and how the input changed since."""
    skipped = Counter(item.reason for item in cases.skipped if not item.code)
    listen(Found(cases=len(cases.plans), done_before=len(done), skipped=dict(skipped.most_common())))
    now = {plan.case_id for plan in cases.plans}
    if before.ignored_lines:
        listen(Told(f"{before.ignored_lines} damaged lines of the ledger were ignored.", is_warning=True))
    if before.planned and (new := now - before.planned):
        listen(Told(f"{len(new)} studies are new since the earlier run (io.changed).", is_warning=True))
    if gone := before.planned - now:
        listen(Told(f"{len(gone)} studies of the earlier run are not there any more (io.changed).", is_warning=True))
    changed = [case_id for case_id in before.entries if case_id in now and case_id not in done]
    if changed:
        listen(Told(f"{len(changed)} cases of the earlier run are done again.", is_warning=True))
    if cases.unmatched_reports:
        listen(Told(f"{cases.unmatched_reports} reports belong to no study found here.", is_warning=True))


def _is_ready(plan: CasePlan, ready: frozenset[str] | None) -> bool:
    """Whether no file of the study, or of its report, still changes."""
    if ready is None:
        return True
    images = [path for series in plan.study.series for path in series.files] if plan.study is not None else []
    return all(str(path) in ready for path in (*images, *plan.files, *plan.broken_files.values()))


def _shard_key(plan: CasePlan) -> str:
    return plan.study.study_uid if plan.study is not None else plan.case_id


def _told(entry: Entry, done: int) -> CaseDone:
    return CaseDone(
        case_id=entry.case_id,
        status=entry.status,
        done=done,
        code=entry.failure.get("code", ""),
        reason=entry.failure.get("reason", ""),
    )
