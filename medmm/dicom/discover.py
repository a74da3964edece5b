"""From a folder to its studies: any layout, any file names; files are told apart by content and by UIDs."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from kg.collector import collector_paused
from medmm.dicom.examine import examine_all
from medmm.dicom.geometry import axes
from medmm.dicom.header import FileFacts, Identity
from medmm.dicom.index import HeaderIndex
from medmm.dicom.kinds import archive_kind
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.split import Part, split_series
from medmm.dicom.types import Discovery, Series, Skipped, Slice, Study, TextReport
from medmm.errors import InputError
from medmm.types import Note

_HARMLESS = frozenset({"image.color"})  # a coloured picture beside a volume takes nothing away from it


def discover(
    folder: str | Path,
    *,
    workers: int | None = None,
    index: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Discovery:
    """Return the studies under a folder (or of one file), and every file that is not used, with the reason.

    Args:
        folder: Searched through all levels; links to folders are followed once. A DICOMDIR stands for its folder.
        workers: Reader processes; None takes one a core. 0 reads in this process, without protection against crashes
            and hangs: for trusted files only.
        index: A file that remembers what was found, so that the next run reads only files that are new or changed. It
            holds identifiers; it is written with mode 0600.
        limits: Caps on what a file may claim, and on memory and time.
    Raises:
        InputError: io.unreadable when the folder is not there, limit.archive when it is an archive.
    """
    root = Path(folder)
    if root.is_file():
        _refuse_archive(root)
        paths: Iterable[Path] = [root] if root.name.upper() != "DICOMDIR" else walk_files(root.parent)
    elif root.is_dir():
        paths = walk_files(root)
    else:
        raise InputError("Expected a folder or a file (found neither).", code="io.unreadable")
    with collector_paused():  # headers are many objects and no cycle; looking for one doubles the time
        if index is None:
            return assemble(examine_all(paths, workers, limits))
        with HeaderIndex(Path(index), limits) as known:
            return assemble(known.examine(paths, workers))


def _refuse_archive(path: Path) -> None:
    """Nothing is ever unpacked: names in an archive may lead anywhere, and its size says nothing of its content."""
    kind = archive_kind(path)
    if kind and not path.name.lower().endswith(".nii.gz"):
        raise InputError(
            f"Expected a folder or a DICOM file (got a {kind}).",
            code="limit.archive",
            remedy="Unpack it into a folder of its own and pass that.",
        )


def walk_files(root: Path) -> Iterator[Path]:
    """Yield everything under a folder that is not a folder, sorted within each; never enters a folder twice."""
    pending, seen = [root], set()
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            yield folder  # examined like a file, and reported as unreadable
            continue
        folders = []
        for entry in found:
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path)
        pending += reversed(folders)


def assemble(facts: Iterable[tuple[Path, FileFacts]]) -> Discovery:
    """Return the studies that a stream of examined files makes up."""
    found = _Found()
    for path, fact in facts:
        found.add(path, fact)
    conflicts = found.identity_conflicts()
    series: dict[SeriesKey, list[Series]] = {}
    for key, arrived in found.slices.items():
        members = sorted(arrived, key=lambda piece: (os.fspath(piece.instance.path), piece.frame.index))
        try:
            parts, broken = split_series(members), found.broken_files(key)
        except InputError as error:
            parts = [Part(slices=tuple(members))]
            broken = (Skipped(members[0].instance.path, str(error), error.code, key.series_uid),)
        if key in conflicts:
            broken = (Skipped(members[0].instance.path, conflicts[key], "identity.conflict", key.series_uid),)
        parts = [replace(part, notes=(*part.notes, *found.strays_beside(part))) for part in parts]
        series[key] = [_series(key, part, len(parts), broken) for part in parts]
    return Discovery(
        studies=tuple(_studies(series, found)),
        skipped=tuple(sorted(found.skipped, key=lambda one: os.fspath(one.path))),
    )


class SeriesKey(NamedTuple):
    """Whose series a file belongs to: two patients never share one, whatever their UIDs say."""

    study_uid: str
    patient: tuple[str, str]  # issuer, patient ID
    series_uid: str


class _Found:
    """What the examined files hold so far, by series."""

    def __init__(self) -> None:
        self.slices: dict[SeriesKey, list[Slice]] = defaultdict(list)
        self.identities: dict[SeriesKey, Identity] = {}
        self.birth_dates: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.reports: list[tuple[SeriesKey, Identity, TextReport]] = []
        self.skipped: list[Skipped] = []
        self.defects: dict[SeriesKey, list[tuple[str, Skipped]]] = defaultdict(list)
        self.strays: dict[Path, list[Skipped]] = defaultdict(list)  # files by folder that may be slices of any series

    def add(self, path: Path, fact: FileFacts) -> None:
        """Take in one file."""
        identity = fact.identity
        if identity is not None:
            key = SeriesKey(identity.study_uid, (identity.issuer, identity.patient_id), identity.series_uid)
            if identity.patient_id and identity.birth_date:
                self.birth_dates[key.patient].add(identity.birth_date)
            if fact.instance is not None:
                self.slices[key] += [Slice(fact.instance, frame) for frame in fact.instance.frames]
                self.identities.setdefault(key, identity)
            elif fact.report is not None:
                self.reports.append((key, identity, fact.report))
            elif fact.skipped is not None and fact.skipped.code and fact.skipped.code not in _HARMLESS:
                self.defects[key].append((fact.sop_uid, fact.skipped))
        if fact.skipped is not None and fact.skipped.code and not (identity and identity.series_uid):
            self.strays[path.parent].append(fact.skipped)
        if fact.skipped is not None:
            self.skipped.append(_with_missing(path, fact))

    def broken_files(self, key: SeriesKey) -> tuple[Skipped, ...]:
        """Files of a series that cannot be used and of which there is no intact copy."""
        if key not in self.defects:
            return ()
        intact = {piece.instance.sop_uid for piece in self.slices[key]}
        return tuple(defect for sop_uid, defect in self.defects[key] if sop_uid not in intact)

    def strays_beside(self, part: Part) -> tuple[Note, ...]:
        """A note when a file beside the slices broke before it said where it belongs: else only a gap would tell."""
        if not self.strays:
            return ()
        folders = {piece.instance.path.parent for piece in part.slices}
        beside = [stray for folder in sorted(folders) for stray in self.strays.get(folder, ())]
        if not beside:
            return ()
        message = f"{len(beside)} files beside its slices could not be read; a slice at an end may be missing."
        return (Note(beside[0].code, message),)

    def identity_conflicts(self) -> dict[SeriesKey, str]:
        """Series that carry several patients, and series of a patient with several birth dates."""
        patients: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for key in self.slices:
            patients[key.series_uid].add(key.patient)
        found = {}
        for key in self.slices:
            if len(self.birth_dates[key.patient]) > 1:
                found[key] = "Expected one (0010,0030) Patient's Birth Date for a patient (got several)."
            if len(patients[key.series_uid]) > 1:
                found[key] = "Expected one (0010,0020) Patient ID in a series (got several)."
        return found


def _with_missing(path: Path, fact: FileFacts) -> Skipped:
    """A DICOMDIR says how many of its files are not there. Its names are looked up, never followed outwards."""
    assert fact.skipped is not None
    names = [name for name in fact.referenced if ".." not in name.split("/") and not name.startswith("/")]
    absent = 0
    for name in names:
        target = path.parent / name
        absent += not (os.path.lexists(target) or os.path.lexists(target.with_name(target.name.lower())))
    if not absent:
        return fact.skipped
    return replace(
        fact.skipped, reason=f"{fact.skipped.reason}; {absent} of the {len(names)} files it lists are not there"
    )


def _series(key: SeriesKey, part: Part, count: int, defects: tuple[Skipped, ...]) -> Series:
    ordered = part.slices
    if ordered[0].frame.position and ordered[0].frame.orientation:
        normal = axes(ordered[0].frame.orientation)[2]
        placed = [one for one in ordered if one.frame.position]
        others = [one for one in ordered if not one.frame.position]
        placed.sort(key=lambda one: (float(normal @ one.frame.position), one.instance.sop_uid))
        ordered = (*placed, *others)
    header = ordered[0].instance.header
    notes = list(part.notes)
    if count > 1:
        notes.append(Note("series.multi_volume", f"The series holds {count} volumes; this is {part.key}."))
    if defects:
        notes.append(Note(defects[0].code, f"The series cannot be used: {defects[0].reason}"))
    return Series(
        series_uid=key.series_uid,
        study_uid=key.study_uid,
        modality=header.modality,
        description=header.description,
        header=header,
        slices=ordered,
        split_key=part.key,
        volume_count=count,
        notes=tuple(notes),
        defects=defects,
    )


def _studies(series: dict[SeriesKey, list[Series]], found: _Found) -> list[Study]:
    """Group by study UID and patient, so that two patients never share a study."""
    who: dict[tuple[str, tuple[str, str]], Identity] = {}
    images: dict[tuple[str, tuple[str, str]], list[Series]] = defaultdict(list)
    texts: dict[tuple[str, tuple[str, str]], list[TextReport]] = defaultdict(list)
    for key, volumes in series.items():
        who.setdefault(key[:2], found.identities[key])
        images[key[:2]] += volumes
    for key, identity, report in found.reports:
        who.setdefault(key[:2], identity)
        texts[key[:2]].append(report)
    return [_study(identity, images[key], texts[key]) for key, identity in sorted(who.items())]


def _study(identity: Identity, series: list[Series], reports: list[TextReport]) -> Study:
    age, sex, notes = _age_and_sex(identity)
    return Study(
        study_uid=identity.study_uid,
        patient_id=identity.patient_id,
        patient_name=identity.patient_name,
        birth_date=identity.birth_date,
        study_date=identity.study_date,
        description=identity.study_description,
        age_years=age,
        sex=sex,
        series=tuple(sorted(series, key=lambda one: (one.header.series_number or 0, one.series_uid))),
        reports=tuple(sorted(reports, key=lambda one: (one.is_final, one.content_date, one.sop_uid), reverse=True)),
        notes=notes,
    )


def _age_and_sex(identity: Identity) -> tuple[float | None, str | None, tuple[Note, ...]]:
    """Age in years and sex (M, F, O), dropped with a note where impossible."""
    notes = []
    sex = identity.sex.upper() or None
    if sex not in (None, "M", "F", "O"):
        notes.append(Note("dicom.bad_value", "(0010,0040) Patient's Sex is not M, F or O and was left out."))
        sex = None
    age: float | None = None
    if identity.age:
        match = re.fullmatch(r"(\d{1,3})([YMWD])", identity.age.upper())
        if match:
            age = int(match[1]) / {"Y": 1, "M": 12, "W": 52.1775, "D": 365.2425}[match[2]]
        else:
            notes.append(Note("dicom.bad_value", "(0010,1010) Patient's Age is not an age and was left out."))
    elif identity.birth_date and identity.study_date:
        try:
            age = (_date(identity.study_date) - _date(identity.birth_date)).days / 365.2425
        except ValueError:
            notes.append(Note("dicom.bad_value", "A date of the patient or study is not a date and was left out."))
    if age is not None and not 0 <= age <= 130:
        notes.append(Note("dicom.bad_value", "The patient's age at the study is impossible and was left out."))
        age = None
    return age, sex, tuple(notes)


def _date(text: str) -> date:
    digits = text.replace(".", "")
    if not re.fullmatch(r"\d{8}", digits):
        raise ValueError("not a DICOM date")
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
