"""Whose folder is it: which folders belong to one study alone, and which broken files belong to which study."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medmm.dicom.types import Skipped, Study

StudyKey = tuple[str, str]

# Not failures: what cannot even be opened is counted and listed (a link, a device), it is no case.
_NOT_A_CASE = frozenset({"io.unreadable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFiles:
    """Files of one series, or of one folder where their series is unknown, that could not be used, with one code."""

    label: str
    code: str
    reason: str
    paths: tuple[Path, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Folders of one study only, broken files that lie in them, and broken files that belong to nobody."""

    folders: Mapping[StudyKey, tuple[Path, ...]]
    broken: Mapping[StudyKey, tuple[BrokenFiles, ...]]
    orphans: tuple[BrokenFiles, ...]


def study_key(study: "Study") -> StudyKey:
    """Study Instance UID and Patient ID: what makes a study one study here."""
    return study.study_uid, study.patient_id


def find_owners(studies: Iterable["Study"], skipped: Iterable["Skipped"], root: Path) -> Ownership:
    """Return which folders under `root` hold, at any depth, files of one study only, and whose the broken files are.

    A broken file belongs to the study that owns its folder. Where several studies share the folder it belongs to
    nobody, and its series (or the folder, where the series is unknown) counts as a case of its own.
    """
    known_series: set[str] = set()
    owners: dict[Path, set[StudyKey]] = defaultdict(set)
    for study in studies:
        known_series |= {series.series_uid for series in study.series}
        files = [path for series in study.series for path in series.files] + [item.path for item in study.reports]
        for folder in {path.parent for path in files}:
            for place in _upwards(folder, root):
                owners[place].add(study_key(study))
    folders: dict[StudyKey, list[Path]] = defaultdict(list)
    for place, keys in owners.items():
        if len(keys) == 1:
            folders[next(iter(keys))].append(place)
    broken: dict[StudyKey, list[BrokenFiles]] = defaultdict(list)
    orphans = []
    for group in _group(skipped, known_series, root):
        keys = next((owners[place] for place in _upwards(group.paths[0].parent, root) if place in owners), set())
        if len(keys) == 1:
            broken[next(iter(keys))].append(group)
        else:
            orphans.append(group)
    return Ownership(
        folders={key: tuple(sorted(places)) for key, places in folders.items()},
        broken={key: tuple(groups) for key, groups in broken.items()},
        orphans=tuple(orphans),
    )


def _group(skipped: Iterable["Skipped"], known_series: set[str], root: Path) -> list[BrokenFiles]:
    """Broken files by series, or by folder where the series is unknown. Defects of a known series stay with it."""
    groups: dict[str, list[Skipped]] = defaultdict(list)
    for item in skipped:
        if not item.code or item.code in _NOT_A_CASE or item.series_uid in known_series:
            continue
        inside = item.path.parent.relative_to(root) if root in item.path.parents else item.path.parent
        groups[f"series {item.series_uid}" if item.series_uid else f"folder {inside.as_posix()}"].append(item)
    return [
        BrokenFiles(
            label=label,
            code=items[0].code,
            reason=items[0].reason,
            paths=tuple(sorted(item.path for item in items)),
        )
        for label, items in sorted(groups.items())
    ]


def _upwards(folder: Path, root: Path) -> Iterable[Path]:
    for place in (folder, *folder.parents):
        yield place
        if place == root:
            return
