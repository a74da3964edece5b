"""Discovery's facts as JSON and back: what crosses process borders and what the index on disk holds. Never pickle.

Values that many files share (acquisition header, pixel format, identity, orientation...) are written once in a stream
and then referred to by number; the decoder shares the objects, which keeps 100,000 files in a few hundred megabytes.
Paths are not part of it: whoever reads a stream knows which file it asked about.
"""

from collections.abc import Hashable
from dataclasses import fields
from pathlib import Path
from typing import Any

from medmm.dicom.header import FileFacts, Identity
from medmm.dicom.types import AcquisitionHeader, Frame, Instance, PixelFormat, Skipped, TextReport
from medmm.types import Note

_SHARED: tuple[type, ...] = (AcquisitionHeader, PixelFormat, Identity, Note, tuple)
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _SHARED if kind is not tuple}


class Encoder:
    """Turns facts into JSON-ready lists. One for each stream, because it remembers what it has written."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def facts(self, fact: FileFacts) -> list[Any]:
        """One file's facts; images, which are nearly all, take the first two places only."""
        identity = None if fact.identity is None else self._shared(fact.identity)
        if fact.instance is not None:
            return [identity, self.instance(fact.instance)]
        skipped, report = fact.skipped, fact.report
        return [
            identity,
            None,
            None if report is None else [report.sop_uid, report.content_date, report.is_final],
            None if skipped is None else [skipped.reason, skipped.code, skipped.series_uid],
            fact.sop_uid,
            list(fact.referenced),
        ]

    def instance(self, instance: Instance) -> list[Any]:
        """One image file, without its path."""
        return [
            instance.size,
            instance.mtime_ns,
            instance.sop_uid,
            instance.number,
            self._shared(instance.header),
            self._shared(instance.pixels),
            instance.pixel_offset,
            instance.pixel_length,
            [self._frame(frame) for frame in instance.frames],
            instance.modality_lut,
            [self._shared(note) for note in instance.notes],
        ]

    def _frame(self, frame: Frame) -> list[Any]:
        shared = self._shared
        return [
            frame.index,
            frame.position,
            shared(frame.orientation),
            shared(frame.spacing),
            frame.slope,
            frame.intercept,
            frame.tile,
            [shared(pair) for pair in frame.keys],
        ]

    def _shared(self, value: Any) -> Any:
        """A number when written before, else [number, kind, fields]."""
        known = self._numbers.get(value)
        if known is not None:
            return known
        number = self._numbers[value] = len(self._numbers)
        kind = type(value)
        plain = list(value) if kind is tuple else [getattr(value, name) for name in _FIELDS[kind]]
        return [number, _SHARED.index(kind), plain]


class Decoder:
    """Reads what an `Encoder` of the same stream wrote.

    Raises:
        ValueError, TypeError, IndexError, KeyError: The stream is torn or from another version.
    """

    def __init__(self) -> None:
        self._table: dict[int, Any] = {}

    def facts(self, plain: list[Any], path: Path) -> FileFacts:
        """The facts of the file at `path`."""
        identity = None if plain[0] is None else self._shared(plain[0])
        if plain[1] is not None:
            return FileFacts(identity=identity, instance=self.instance(plain[1], path))
        _, _, report, skipped, sop_uid, referenced = plain
        return FileFacts(
            identity=identity,
            report=None
            if report is None
            else TextReport(path=path, sop_uid=report[0], content_date=report[1], is_final=report[2]),
            skipped=None if skipped is None else Skipped(path, *skipped),
            sop_uid=sop_uid,
            referenced=tuple(referenced),
        )

    def instance(self, plain: list[Any], path: Path) -> Instance:
        """The image file at `path`."""
        size, mtime_ns, sop_uid, number, header, pixels, offset, length, frames, lut, notes = plain
        shared = self._shared
        return Instance(
            path=path,
            size=size,
            mtime_ns=mtime_ns,
            sop_uid=sop_uid,
            number=number,
            header=shared(header),
            pixels=shared(pixels),
            pixel_offset=offset,
            pixel_length=length,
            frames=tuple([self._frame(frame) for frame in frames]),
            modality_lut=None if lut is None else (lut[0], tuple(lut[1])),
            notes=tuple([shared(note) for note in notes]),
        )

    def _frame(self, plain: list[Any]) -> Frame:
        index, position, orientation, spacing, slope, intercept, tile, keys = plain
        shared = self._shared
        return Frame(
            index=index,
            position=tuple(position),
            orientation=shared(orientation),
            spacing=shared(spacing),
            slope=slope,
            intercept=intercept,
            tile=None if tile is None else tuple(tile),
            keys=tuple([shared(pair) for pair in keys]),
        )

    def _shared(self, plain: Any) -> Any:
        if type(plain) is int:
            return self._table[plain]
        number, kind_number, values = plain
        kind = _SHARED[kind_number]
        restored = tuple([tuple(value) if isinstance(value, list) else value for value in values])
        value = restored if kind is tuple else kind(**dict(zip(_FIELDS[kind], restored, strict=True)))
        self._table[number] = value
        return value
