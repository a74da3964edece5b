"""The leak guard: what would let a model look good without having learned anything.

Two cases that are one in truth but can be on both sides of a split: the same patient under two spellings, the same
pixels, images or reports that are almost the same. And reports that name their own label.
"""

import hashlib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy.fft import dctn

from medmm.config import TaskSpec
from medmm.report_leak import find_answers
from medmm.types import Case
from pipelines.evaluation.answers import pixel_hashes
from pipelines.labels import names_in
from pipelines.manifest import ManifestRow
from pipelines.training.recipe import LeakKind

SLICES = (0.4, 0.5, 0.6)  # heights at which a volume is looked at
HASH_EDGE, HASH_FROM = 16, 64  # coefficients kept an axis, out of a picture of this edge
# Share of differing bits. Of 78 brain MRI the nearest two patients differ in 0.26, and copies that were shrunk by a
# quarter, brightened and noised in 0.14 at most. Of 1.7 million pairs of single images of different teaching cases one
# differs in less than 0.18.
NEAR_IMAGE = 0.17
SHINGLE_WORDS, MIN_SHINGLES = 5, 8
NEAR_REPORT = 0.8  # Jaccard similarity of shingles (Broder, 1997)
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What is compared of a case: hashes of its files, perceptual hashes of its series, shingles of its report."""

    hashes: frozenset[str] = frozenset()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    shingles: frozenset[int] = frozenset()
    named_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One finding; `cases` are the manifest's names of the two cases, or of the one whose report names its label."""

    kind: LeakKind
    cases: tuple[str, ...]
    detail: str


def fingerprint_of(case: Case, row: ManifestRow, tasks: Collection[TaskSpec]) -> Fingerprint:
    """Return what is compared of a case; computed once, so that its pixels can go."""
    text = case.report.text if case.report is not None else ""
    return Fingerprint(
        hashes=pixel_hashes(case),
        pictures={role: picture_hash(volume.voxels[0]) for role, volume in case.volumes.items()},
        shingles=shingles_of(text),
        named_labels=tuple(task.name for task in tasks if task.source == "fusion" and _names_label(text, task, row)),
    )


def find_leaks(rows: Sequence[ManifestRow], prints: Sequence[Fingerprint]) -> list[Leak]:
    """Return every leak between cases that a split can part, and every report that names its label.

    Cases of one patient in one split are always kept together, so they may be alike.
    """
    leaks = [
        Leak(
            kind="label", cases=(row.case,), detail=f"the report names its own label of {', '.join(item.named_labels)}"
        )
        for row, item in zip(rows, prints, strict=True)
        if item.named_labels
    ]
    pairs = itertools.chain(_same_patients(rows), _same_volumes(prints), _near_images(prints), _near_reports(prints))
    seen: set[tuple[int, int]] = set()
    for kind, first, second, detail in pairs:
        if (first, second) in seen or not _can_be_parted(rows[first], rows[second]):
            continue
        seen.add((first, second))
        leaks.append(Leak(kind=kind, cases=(rows[first].case, rows[second].case), detail=detail))
    return leaks


def summarise_leaks(leaks: Collection[Leak]) -> str:
    """One sentence: how many of each kind, with the first case names of each."""
    counts = Counter(leak.kind for leak in leaks)
    first = {kind: next(leak for leak in leaks if leak.kind == kind) for kind in counts}
    return "; ".join(
        f"{count} x {kind} (first: {' and '.join(first[kind].cases)}: {first[kind].detail})"
        for kind, count in counts.items()
    )


def picture_hash(voxels: np.ndarray) -> np.ndarray:
    """Return bool (K,): signs of the low frequencies of some axial slices against their median, as pHash does.

    Brightness, contrast and size hardly matter.
    """
    depth = voxels.shape[2]
    heights = sorted({min(int(depth * share), depth - 1) for share in SLICES})
    bits = []
    for height in heights:
        picture = Image.fromarray(np.ascontiguousarray(voxels[:, :, height], dtype=np.float32))
        small = np.asarray(picture.resize((HASH_FROM, HASH_FROM), Image.Resampling.BOX))
        low = dctn(small, norm="ortho")[:HASH_EDGE, :HASH_EDGE].ravel()[1:]
        bits.append(low > np.median(low))
    return np.concatenate(bits)


def shingles_of(text: str) -> frozenset[int]:
    """Return hashes of all runs of five words, case and punctuation apart; nothing for texts too short to compare."""
    words = re.findall(r"\w+", text.lower())
    runs = {" ".join(words[n : n + SHINGLE_WORDS]) for n in range(len(words) - SHINGLE_WORDS + 1)}
    if len(runs) < MIN_SHINGLES:
        return frozenset()
    return frozenset(int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big") for run in runs)


def _names_label(text: str, task: TaskSpec, row: ManifestRow) -> bool:
    own = names_in(task, row.labels.get(task.name, ""))
    words = [word for label in task.classes if label.name in own for word in (label.name, label.title)]
    return bool(find_answers(text, words))


def _can_be_parted(first: ManifestRow, second: ManifestRow) -> bool:
    return first.patient != second.patient or first.split != second.split


_Pair = tuple[LeakKind, int, int, str]


def _same_patients(rows: Sequence[ManifestRow]) -> Iterator[_Pair]:
    plain: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        plain["".join(re.findall(r"[^\W_]", row.patient.lower())).lstrip("0")].append(index)
    for indices in plain.values():
        for first, second in itertools.combinations(indices, 2):
            yield "patient", first, second, "the same patient under two spellings, or in two splits"


def _same_volumes(prints: Sequence[Fingerprint]) -> Iterator[_Pair]:
    owners: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(prints):
        for digest in item.hashes:
            owners[digest].append(index)
    for indices in owners.values():
        for first, second in itertools.combinations(indices, 2):
            yield "volume", first, second, "a series has the same pixels"


def _near_images(prints: Sequence[Fingerprint]) -> Iterator[_Pair]:
    """Pairs of cases of which one series each looks the same; only hashes of one length can be compared."""
    by_length: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for index, item in enumerate(prints):
        for bits in item.pictures.values():
            by_length[len(bits)].append((index, bits))
    for length, found in sorted(by_length.items()):
        owner = np.array([index for index, _ in found])
        signs = np.stack([bits for _, bits in found]).astype(np.float32) * 2 - 1
        limit = length * (1 - 2 * NEAR_IMAGE)  # of the product of two signs
        for start in range(0, len(signs), _BLOCK):
            alike = signs[start : start + _BLOCK] @ signs.T >= limit
            for a, b in np.argwhere(alike):
                first, second = int(owner[start + a]), int(owner[b])
                if first < second:
                    yield "image", first, second, "two series look the same"


def _near_reports(prints: Sequence[Fingerprint]) -> Iterator[_Pair]:
    owners: dict[int, list[int]] = defaultdict(list)
    for second, item in enumerate(prints):
        shared: Counter[int] = Counter(first for shingle in item.shingles for first in owners[shingle])
        for first, count in sorted(shared.items()):
            union = len(prints[first].shingles) + len(item.shingles) - count
            if count >= NEAR_REPORT * union:
                yield "report", first, second, "two reports are almost the same text"
        for shingle in item.shingles:
            owners[shingle].append(second)
