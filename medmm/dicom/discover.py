"""From a folder to its studies: any layout, any file names; files are told apart by content and by UIDs."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

from medmm.dicom.geometry import axes
from medmm.dicom.header import FileFacts, Identity, examine
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.split import Part, split_series
from medmm.dicom.types import Discovery, Series, Skipped, Slice, Study, TextReport
from medmm.errors import InputError
from medmm.types import Note

_HARMLESS = frozenset({"image.color"})  # a coloured picture beside a volume takes nothing away from it


def discover(folder: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> Discovery:
    """Return the studies under a folder (or of one file), and every file that is not used, with the reason.

    Args:
        folder: Searched through all levels; links to folders are followed once. A DICOMDIR stands for its folder.
        limits: Caps on what a file may claim.
    Raises:
        InputError: io.unreadable when the folder is not there.
    """
    root = Path(folder)
    if root.is_file():
        paths: Iterable[Path] = [root] if root.name.upper() != "DICOMDIR" else walk_files(root.parent)
    elif root.is_dir():
        paths = walk_files(root)
    else:
        raise InputError("Expected a folder or a file (found neither).", code="io.unreadable")
    return assemble((path, examine(path, limits)) for path in paths)


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
    slices: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    identities: dict[tuple[str, str], dict[Identity, list[Path]]] = defaultdict(lambda: defaultdict(list))
    reports: list[tuple[Identity, TextReport]] = []
    skipped: list[Skipped] = []
    defects: list[tuple[Identity, Skipped]] = []
    listed: list[tuple[Path, tuple[str, ...]]] = []
    for path, fact in facts:
        if fact.instance is not None and fact.identity is not None:
            key = (fact.identity.study_uid, fact.identity.series_uid)
            slices[key] += [Slice(fact.instance, frame) for frame in fact.instance.frames]
            identities[key][replace(fact.identity, sop_uid="")].append(path)
        elif fact.report is not None and fact.identity is not None:
            reports.append((fact.identity, fact.report))
        elif fact.skipped is not None:
            skipped.append(fact.skipped)
            if fact.identity is not None and fact.skipped.code:
                defects.append((fact.identity, fact.skipped))
            if fact.referenced:
                listed.append((path, fact.referenced))
    skipped += _missing_of_directories(listed)
    conflicts = _identity_conflicts(identities)
    for key, reason in conflicts.items():
        slices.pop(key)
        skipped += [
            Skipped(path, reason, "identity.conflict", key[1]) for paths in identities[key].values() for path in paths
        ]
    series: list[Series] = []
    for key, members in slices.items():
        try:
            parts = split_series(members)
        except InputError as error:
            paths = dict.fromkeys(piece.instance.path for piece in members)
            skipped += [Skipped(path, str(error), error.code, key[1]) for path in paths]
            continue
        uids = {piece.instance.sop_uid for piece in members}
        broken = tuple(
            defect
            for identity, defect in defects
            if (identity.study_uid, identity.series_uid) == key
            and identity.sop_uid not in uids
            and defect.code not in _HARMLESS
        )
        series += [_series(key, part, len(parts), broken) for part in parts]
    return Discovery(studies=tuple(_studies(series, identities, reports)), skipped=tuple(skipped))


def _series(key: tuple[str, str], part: Part, count: int, defects: tuple[Skipped, ...]) -> Series:
    ordered = part.slices
    if ordered[0].frame.position and ordered[0].frame.orientation:
        normal = axes(ordered[0].frame.orientation)[2]
        ordered = tuple(
            sorted(ordered, key=lambda piece: (float(normal @ piece.frame.position), piece.instance.sop_uid))
        )
    header = ordered[0].instance.header
    notes = list(part.notes)
    if count > 1:
        notes.append(Note("series.multi_volume", f"The series holds {count} volumes; this is {part.key}."))
    if defects:
        notes.append(Note(defects[0].code, f"{len(defects)} files of the series cannot be used."))
    return Series(
        series_uid=key[1],
        study_uid=key[0],
        modality=header.modality,
        description=header.description,
        header=header,
        slices=ordered,
        split_key=part.key,
        volume_count=count,
        notes=tuple(notes),
        defects=defects,
    )


def _studies(
    series: list[Series],
    identities: dict[tuple[str, str], dict[Identity, list[Path]]],
    reports: list[tuple[Identity, TextReport]],
) -> list[Study]:
    """Group by study UID and patient ID, so that two patients never share a study."""
    who: dict[tuple[str, str], Identity] = {}
    images: dict[tuple[str, str], list[Series]] = defaultdict(list)
    texts: dict[tuple[str, str], list[TextReport]] = defaultdict(list)
    for item in series:
        identity = next(iter(identities[item.study_uid, item.series_uid]))
        key = (identity.study_uid, identity.patient_id)
        who.setdefault(key, identity)
        images[key].append(item)
    for identity, report in reports:
        key = (identity.study_uid, identity.patient_id)
        who.setdefault(key, identity)
        texts[key].append(report)
    studies = []
    for key in sorted(who):
        identity = who[key]
        age, sex, notes = _age_and_sex(identity)
        ordered = sorted(images[key], key=lambda one: (one.header.series_number or 0, one.series_uid))
        studies.append(
            Study(
                study_uid=identity.study_uid,
                patient_id=identity.patient_id,
                patient_name=identity.patient_name,
                birth_date=identity.birth_date,
                study_date=identity.study_date,
                description=identity.study_description,
                age_years=age,
                sex=sex,
                series=tuple(ordered),
                reports=tuple(sorted(texts[key], key=lambda one: (one.is_final, one.content_date), reverse=True)),
                notes=notes,
            )
        )
    return studies


def _identity_conflicts(identities: dict[tuple[str, str], dict[Identity, list[Path]]]) -> dict[tuple[str, str], str]:
    """Series whose files disagree on the patient, and patients with one ID and two birth dates."""
    found: dict[tuple[str, str], str] = {}
    birth_dates: dict[tuple[str, str], set[str]] = defaultdict(set)
    for key, group in identities.items():
        if len({(identity.issuer, identity.patient_id) for identity in group}) > 1:
            found[key] = "Expected one (0010,0020) Patient ID in a series (got several)."
        for identity in group:
            if identity.patient_id and identity.birth_date:
                birth_dates[identity.issuer, identity.patient_id].add(identity.birth_date)
    by_series: dict[str, set[str]] = defaultdict(set)
    for key, group in identities.items():
        by_series[key[1]] |= {identity.patient_id for identity in group}
        if any(len(birth_dates[identity.issuer, identity.patient_id]) > 1 for identity in group):
            found.setdefault(key, "Expected one (0010,0030) Patient's Birth Date for a patient (got several).")
    for key in identities:
        if len(by_series[key[1]]) > 1:
            found.setdefault(key, "Expected one (0010,0020) Patient ID in a series (got several).")
    return found


def _missing_of_directories(listed: list[tuple[Path, tuple[str, ...]]]) -> list[Skipped]:
    """Files that a DICOMDIR lists and that are not there. Its names are compared, never followed outwards."""
    found = []
    for directory, names in listed:
        for name in names:
            if ".." in name.split("/") or name.startswith("/"):
                continue
            target = directory.parent / name
            if not (target.exists() or target.with_name(target.name.lower()).exists()):
                found.append(Skipped(target, "listed in a DICOMDIR, but not there", "io.unreadable"))
    return found


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
