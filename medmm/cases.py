"""Cases of a folder: which series, report and record belong together, then their reading. One study is one case.

Finding opens headers only; `CasePlan.read` decodes. Identity ends here: a `Case` holds an opaque id and no path.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.errors import InputError, UsageError
from medmm.folder_owners import BrokenFiles, Ownership, find_owners, study_key
from medmm.identity import load_key, opaque_id
from medmm.records import Table, read_table, record_of
from medmm.report_matching import ReportShelf, ReportSource, match_report, open_shelf, read_matched
from medmm.types import Case, Note, Record, Volume

if TYPE_CHECKING:
    from medmm.dicom.types import Series, Skipped, Study

logger = logging.getLogger(__name__)

# Ages in tables and headers may differ by a birthday or by rounding.
AGE_TOLERANCE_YEARS = 2.0
# As a role: every series of the study, whatever it is, for models that read any images.
EVERY_SERIES = "*"
# A coloured picture beside a volume takes nothing away from the study.
_HARMLESS = frozenset({"image.color"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePlan:
    """What will be read for one case. `problem` is set where it is known already that the case has to be refused.

    `study` is None for broken files that belong to no study that could be read; those are always refused.
    `broken_files` are the files behind the problem by opaque id.
    """

    case_id: str
    study: "Study | None" = field(default=None, repr=False)
    series: Mapping[str, "Series"] = field(default_factory=dict, repr=False)
    report: ReportSource | None = field(default=None, repr=False)
    record: Record | None = field(default=None, repr=False)
    other_patient_ids: frozenset[str] = field(default=frozenset(), repr=False)
    notes: tuple[Note, ...] = ()
    problem: InputError | None = None
    broken_files: Mapping[str, Path] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that reading this case opens, in a fixed order."""
        images = [path for role in sorted(self.series) for path in self.series[role].files]
        report = [self.report.path] if self.report is not None and self.report.path is not None else []
        return (*images, *report)

    def read(self, *, limits: Limits = DEFAULT_LIMITS, workers: int | None = 1) -> Case:
        """Return the case with its pixels.

        Args:
            limits: Caps on files and decoders.
            workers: Decode processes; see `medmm.read_volume`.
        Raises:
            InputError: What is wrong with a file, the geometry or the identity; see `medmm.errors.CODES`.
        """
        from medmm.dicom.volume import read_volume

        if self.problem is not None:
            raise self.problem
        if self.study is None:
            raise InputError("No series of these files can be read.", code="series.none")
        volumes: dict[str, Volume] = {}
        hashes: dict[str, str] = {}
        for role, series in self.series.items():
            hashes[role] = _hash_files(series.files)
            volumes[role] = read_volume(series, workers=workers, limits=limits)
        notes = self.notes
        report = None
        if self.report is not None:
            found = read_matched(self.report, self.study.patient_id, self.other_patient_ids)
            report, notes = found.report, (*notes, *found.notes)
        if report is not None:
            hashes["report"] = hashlib.sha256(report.text.encode()).hexdigest()
        if self.record is not None:
            hashes["record"] = hashlib.sha256(json.dumps(self.record.values, sort_keys=True).encode()).hexdigest()
        return Case(
            case_id=self.case_id,
            volumes=volumes,
            report=report,
            record=self.record,
            notes=notes,
            input_hashes=dict(sorted(hashes.items())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseList:
    """All cases of a folder in order of their ids, what was skipped, and how many given reports fit no study."""

    plans: tuple[CasePlan, ...]
    skipped: tuple["Skipped", ...] = field(default=(), repr=False)
    unmatched_reports: int = 0


def find_cases(
    folder: str | Path,
    *,
    reports: str | Path | None = None,
    records: str | Path | None = None,
    roles: Iterable[str] | None = None,
    record_fields: Iterable[str] | None = None,
    id_key: bytes | None = None,
    limits: Limits = DEFAULT_LIMITS,
    index: Path | None = None,
) -> CaseList:
    """Return the cases under `folder`; no pixels are read.

    Args:
        folder: DICOM files in any layout, grouped by Study Instance UID.
        reports: A folder of texts or a table; the rule is in `medmm.report_matching`.
        records: A table keyed by patient or study; the rule is in `medmm.records`.
        roles: Volume roles that are wanted (`t1`, `flair`, ...); all that are known by default. `*` stands for every
            series, scouts apart, as `series-1`, `series-2`, ...
        record_fields: Fields to keep of the records; all by default. Age and sex come from DICOM where no table has
            them.
        id_key: Key of the opaque case ids; the user's own by default (`medmm.identity`).
        limits: Caps on what a file may claim, and on memory and time.
        index: File that remembers headers between calls; see `medmm.discover`.
    Raises:
        UsageError: `config.table` for tables that cannot be used, `config.key` where `folder` is no folder.
    """
    from medmm.dicom.discover import discover

    root = Path(folder)
    if not root.exists():
        raise UsageError(
            "Expected a folder of DICOM files (there is none of this name).",
            code="config.key",
            remedy="Check the path of the studies.",
        )
    key = load_key() if id_key is None else id_key
    shelf, table = open_shelf(reports), read_table(Path(records)) if records is not None else None
    discovery = discover(root, limits=limits, index=index)
    context = _Context(
        shelf=shelf,
        table=table,
        roles=None if roles is None else tuple(roles),
        record_fields=None if record_fields is None else frozenset(record_fields),
        key=key,
        root=root,
        studies_of_patient=Counter(study.patient_id for study in discovery.studies),
        owners=find_owners(discovery.studies, discovery.skipped, root),
    )
    plans = [_plan(study, context) for study in discovery.studies]
    plans += [_refused_plan(group, context) for group in context.owners.orphans]
    return CaseList(
        plans=tuple(sorted(plans, key=lambda plan: plan.case_id)),
        skipped=discovery.skipped,
        unmatched_reports=shelf.unmatched(discovery.studies),
    )


def read_cases(
    folder: str | Path,
    reports: str | Path | None = None,
    records: str | Path | None = None,
    roles: Iterable[str] | None = None,
    on_refused: Callable[[str, InputError], None] | None = None,
) -> Iterator[Case]:
    """Yield the cases under `folder` one by one, with their pixels; see `find_cases` for the arguments.

    A case that cannot be used does not end the iteration: `on_refused(case_id, error)` is called for it, or it is
    logged as a warning where no function is given.
    """
    for plan in find_cases(folder, reports=reports, records=records, roles=roles).plans:
        try:
            case = plan.read()
        except InputError as error:
            if on_refused is None:
                logger.warning("%s is left out: %s (%s)", plan.case_id, error, error.code)
            else:
                on_refused(plan.case_id, error)
            continue
        yield case


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What planning one study needs to know about all of them."""

    shelf: ReportShelf
    table: Table | None
    roles: tuple[str, ...] | None
    record_fields: frozenset[str] | None
    key: bytes
    root: Path
    studies_of_patient: Mapping[str, int]
    owners: Ownership


def _plan(study: "Study", context: _Context) -> CasePlan:
    from medmm.dicom.sequences import choose_series, every_series

    case_id = opaque_id("case", context.key, study.study_uid, study.patient_id)
    others = frozenset(patient for patient in context.studies_of_patient if patient and patient != study.patient_id)
    broken = context.owners.broken.get(study_key(study), ())
    harmful = [group for group in broken if group.code not in _HARMLESS]
    try:
        if harmful:
            raise _broken_error(harmful[0])
        report = match_report(
            study,
            context.shelf,
            is_only_study=context.studies_of_patient[study.patient_id] == 1,
            own_folders=context.owners.folders.get(study_key(study), ()),
        )
        row = context.table.find(study_uid=study.study_uid, patient_id=study.patient_id) if context.table else None
        record = _record(study, {} if row is None else row.cells, context)
        roles = _recognised_roles(study) if context.roles is None else context.roles
        choice = every_series(study) if EVERY_SERIES in roles else choose_series(study, roles)
    except InputError as error:
        files = _named(harmful, context)
        return CasePlan(case_id=case_id, study=study, problem=error, notes=study.notes, broken_files=files)
    notes = [
        Note(group.code, f"{len(group.paths)} files of the study were left out: {group.reason}") for group in broken
    ]
    if not roles:
        notes.append(Note("series.none", f"None of the study's {len(study.series)} series is of a kind that is known."))
    return CasePlan(
        case_id=case_id,
        study=study,
        series=dict(choice),
        report=report,
        record=record,
        other_patient_ids=others,
        notes=(*study.notes, *choice.notes, *notes),
    )


def _recognised_roles(study: "Study") -> tuple[str, ...]:
    """Every role that a series of the study has, scouts apart."""
    from medmm.dicom.sequences import sequence_role

    headers = [series.header for series in study.series]
    roles = {sequence_role(header, headers[:n] + headers[n + 1 :]) for n, header in enumerate(headers)}
    return tuple(sorted(role for role in roles if role is not None and role != "localizer"))


def _refused_plan(group: BrokenFiles, context: _Context) -> CasePlan:
    return CasePlan(
        case_id=opaque_id("case", context.key, "files", group.label),
        problem=_broken_error(group),
        broken_files=_named([group], context),
    )


def _named(groups: Iterable[BrokenFiles], context: _Context) -> dict[str, Path]:
    paths = [path for group in groups for path in group.paths]
    return {opaque_id("file", context.key, os.path.relpath(path, context.root)): path for path in paths}


def _broken_error(group: BrokenFiles) -> InputError:
    count = len(group.paths)
    return InputError(
        f"{count} file{'s' * (count > 1)} cannot be used; the first: {group.reason}",
        code=group.code,
        remedy="Export the study again, or take these files out of it.",
    )


def _record(study: "Study", cells: Mapping[str, str], context: _Context) -> Record | None:
    """The table's fields, with age and sex out of DICOM where the table has none; a contradiction is noted."""
    columns = context.table.columns if context.table is not None else ()
    given = record_of(cells, columns)
    values, notes = dict(given.values), list(given.notes)
    for name, found in (("age_years", study.age_years), ("sex", study.sex)):
        if found is None or (name == "sex" and found not in ("F", "M")):
            continue
        if name not in values:
            values[name] = found
            notes.append(Note("record.source", f"The record's {name!r} is from the DICOM header."))
        elif _contradict(values[name], found):
            notes.append(Note("identity.conflict", f"Table and DICOM header disagree on {name!r}; the table was used."))
    if context.record_fields is not None:
        values = {name: value for name, value in values.items() if name in context.record_fields}
        notes = [note for note in notes if any(f"{name!r}" in note.message for name in context.record_fields)]
    return Record(values=dict(sorted(values.items())), notes=tuple(notes)) if values or notes else None


def _contradict(given: float | str, found: float | str) -> bool:
    if isinstance(given, float) and isinstance(found, (int, float)):
        return abs(given - found) > AGE_TOLERANCE_YEARS
    return given != found


def _hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the sorted SHA-256 of the files, so that neither names nor their order matter."""
    digests = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except FileNotFoundError:
            raise InputError(
                "A file vanished between discovery and reading.", code="io.changed", remedy="Run again with --resume."
            ) from None
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
