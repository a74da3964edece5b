"""Which slices of a SeriesInstanceUID make one volume, and which are copies of each other.

First by what must be equal inside a volume (size, channels, orientation, pixel spacing), then, where several slices
claim one place, by the attribute that tells them apart: image type, echo, b-value, time point and so on, in the order
that `Frame.keys` lists them. Slices that share a place and differ in nothing but their number are time points when
every place has equally many, else the series is refused.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medmm.dicom.disk import open_regular, read_at
from medmm.dicom.geometry import axes
from medmm.dicom.types import Slice
from medmm.errors import InputError
from medmm.types import Note

_SAME_PLACE_MM = 1e-3
_SAME_DIRECTION = 1e-3  # of a direction cosine; 0.06 degrees


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Slices of one volume and what sets them apart from the rest of their series."""

    slices: tuple[Slice, ...]
    key: str = ""
    notes: tuple[Note, ...] = ()


def split_series(slices: Sequence[Slice]) -> list[Part]:
    """Return the volumes of one series, the one with most slices first among different geometries.

    Raises:
        InputError: series.duplicate when one place has several images that nothing tells apart.
    """
    unique, dropped = _drop_copies(slices)
    parts: list[Part] = []
    grids = _by_geometry(unique)
    for label, members in grids:
        if not members[0].frame.position or not members[0].frame.orientation:
            continue
        for key, group in _by_content(members):
            parts.append(Part(slices=tuple(group), key=", ".join(word for word in (label, key) if word)))
    parts += _single_images([piece for piece in unique if not (piece.frame.position and piece.frame.orientation)])
    dropped += len(unique) - sum(len(part.slices) for part in parts)
    notes = (Note("series.duplicate", f"{dropped} exact copies of slices were dropped."),) if dropped else ()
    mixed = _mixed_note(grids)
    return [
        Part(slices=part.slices, key=part.key if len(parts) > 1 else "", notes=(*notes, *mixed, *part.notes))
        for part in parts
    ]


def _single_images(members: Sequence[Slice]) -> list[Part]:
    """Images that do not say where they lie: each is a volume of its own, in order of their number."""
    ordered = sorted(members, key=lambda piece: (piece.instance.number or 0, piece.frame.index, piece.instance.sop_uid))
    total = len(ordered)
    return [Part(slices=(piece,), key=f"image {n + 1} of {total}") for n, piece in enumerate(ordered)]


def _mixed_note(grids: Sequence[tuple[str, list[Slice]]]) -> tuple[Note, ...]:
    placed = [members for _, members in grids if members[0].frame.position]
    if len(grids) < 2 or not placed:
        return ()
    sizes = " + ".join(str(len(members)) for _, members in grids)
    return (
        Note("series.mixed", f"The series holds images of {len(grids)} geometries ({sizes} slices); it was split."),
    )


def _drop_copies(slices: Sequence[Slice]) -> tuple[list[Slice], int]:
    """Drop what is the same instance again; a UID with other pixels is refused.

    Raises:
        InputError: series.duplicate.
    """
    by_uid: dict[tuple[str, int, object], list[Slice]] = defaultdict(list)
    for n, piece in enumerate(slices):
        uid = piece.instance.sop_uid or f"#{n}"
        by_uid[uid, piece.frame.index, piece.frame.tile].append(piece)
    kept, dropped, hashes = [], 0, dict[Path, bytes]()
    for group in by_uid.values():
        kept.append(group[0])
        if len(group) > 1:
            dropped += len(group) - 1
            if (
                len({_pixel_hash(piece, hashes) for piece in group}) > 1
                or len({piece.frame.position for piece in group}) > 1
            ):
                raise InputError(
                    "Expected one image for a (0008,0018) SOP Instance UID (got several that differ).",
                    code="series.duplicate",
                    remedy="Find out which file is right and leave the other out.",
                )
    return kept, dropped


def _pixel_hash(piece: Slice, known: dict[Path, bytes]) -> bytes:
    """SHA-256 of a file's pixel bytes (of the whole rest of the file when encapsulated), computed once a file."""
    path = piece.instance.path
    if path not in known:
        known[path] = _hash_pixels(piece)
    return known[path]


def _hash_pixels(piece: Slice) -> bytes:
    descriptor = open_regular(piece.instance.path)
    try:
        digest = hashlib.sha256()
        offset = piece.instance.pixel_offset
        left = piece.instance.pixel_length if piece.instance.pixel_length >= 0 else piece.instance.size - offset
        while left > 0 and (block := read_at(descriptor, min(left, 2**20), offset)):
            digest.update(block)
            offset, left = offset + len(block), left - len(block)
        return digest.digest()
    finally:
        os.close(descriptor)


def _by_geometry(slices: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """Slices that can share a grid, largest group first; the label says what differs."""
    groups: list[tuple[tuple[object, ...], list[Slice]]] = []
    for piece in slices:
        signature = _signature(piece)
        for known, members in groups:
            if known[0] == signature[0] and _close(known[1], signature[1]):
                members.append(piece)
                break
        else:
            groups.append((signature, [piece]))
    groups.sort(key=lambda entry: -len(entry[1]))
    if len(groups) == 1:
        return [("", groups[0][1])]
    return [(_describe(members[0]), members) for _, members in groups]


def _signature(piece: Slice) -> tuple[object, tuple[float, ...]]:
    frame, pixels = piece.frame, piece.instance.pixels
    size = frame.tile[2:] if frame.tile else (pixels.rows, pixels.columns)
    has_place = bool(frame.position and frame.orientation)
    exact = (size, pixels.samples, has_place, tuple(round(value, 4) for value in frame.spacing))
    return exact, frame.orientation if has_place else ()


def _close(one: object, other: object) -> bool:
    assert isinstance(one, tuple) and isinstance(other, tuple)
    return len(one) == len(other) and all(abs(a - b) < _SAME_DIRECTION for a, b in zip(one, other, strict=True))


def _describe(piece: Slice) -> str:
    frame, pixels = piece.frame, piece.instance.pixels
    rows, columns = frame.tile[2:] if frame.tile else (pixels.rows, pixels.columns)
    words = f"{columns} x {rows}"
    if frame.orientation:
        _, _, normal = axes(frame.orientation)
        words += f" {('sagittal', 'coronal', 'axial')[int(abs(normal).argmax())]}"
    return words


def _by_content(slices: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """Split slices of one grid until no place is taken twice."""
    places = _places(slices)
    if len(places) == len(slices):
        return [("", list(slices))]
    for name in _key_names(slices):
        groups: dict[str, list[Slice]] = defaultdict(list)
        for piece in slices:
            groups[dict(piece.frame.keys).get(name, "none")].append(piece)
        if len(groups) > 1 and _surplus_of(groups.values()) < len(slices) - len(places):
            # A key that changes with every image (a time stamp) tells apart, but names no volume.
            if len(groups) * len(places) > 2 * len(slices):
                continue
            return [
                (", ".join(word for word in (f"{name} {value}", rest) if word), members)
                for value, group in sorted(groups.items(), key=_natural)
                for rest, members in _by_content(group)
            ]
    return _by_number(slices, places)


def _surplus_of(groups: Iterable[list[Slice]]) -> int:
    return sum(len(group) - len(_places(group)) for group in groups)


def _natural(entry: tuple[str, list[Slice]]) -> tuple[int, float, str]:
    try:
        return (0, float(entry[0]), "")
    except ValueError:
        return (1, 0.0, entry[0])


def _key_names(slices: Sequence[Slice]) -> list[str]:
    names: dict[str, None] = {}
    for piece in slices:
        names.update(dict.fromkeys(name for name, _ in piece.frame.keys))
    return list(names)


def _places(slices: Sequence[Slice]) -> dict[int, list[Slice]]:
    """Slices by their position along the normal, in steps of the tolerance."""
    normal = axes(slices[0].frame.orientation)[2]
    found: dict[int, list[Slice]] = defaultdict(list)
    ordered = sorted(((float(normal @ piece.frame.position), n) for n, piece in enumerate(slices)))
    place, last = -1, float("-inf")
    for value, n in ordered:
        if value - last > 10 * _SAME_PLACE_MM:
            place += 1
            last = value
        found[place].append(slices[n])
    return found


def _by_number(slices: Sequence[Slice], places: dict[int, list[Slice]]) -> list[tuple[str, list[Slice]]]:
    """Time points told apart by instance number alone; copies under new UIDs are dropped.

    Raises:
        InputError: series.duplicate.
    """
    hashes: dict[Path, bytes] = {}
    contents = [
        {(_pixel_hash(piece, hashes), piece.frame.index, piece.frame.tile) for piece in members}
        for members in places.values()
    ]
    if all(len(content) == 1 for content in contents):
        return [("", [members[0] for members in places.values()])]
    counts = {len(members) for members in places.values()}
    numbered = all(piece.instance.number is not None for piece in slices)
    if len(counts) != 1 or not numbered:
        raise InputError(
            "Expected one slice at each position (got several, with nothing that tells them apart).",
            code="series.duplicate",
            remedy="Export the series again, each volume for itself.",
        )
    total = counts.pop()
    columns = [sorted(members, key=_number_and_frame) for members in places.values()]
    return [(f"time point {n + 1} of {total}", [column[n] for column in columns]) for n in range(total)]


def _number_and_frame(piece: Slice) -> tuple[int, int]:
    return piece.instance.number or 0, piece.frame.index
