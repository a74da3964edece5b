"""Discovery's facts as JSON and back: what crosses process borders and what the index on disk holds. Never pickle.

Values that many files share (acquisition header, pixel format, identity) are written once in a stream and then
referred to by number; the decoder shares the objects, which keeps 100,000 files in a few hundred megabytes.
"""

from collections.abc import Hashable
from dataclasses import fields
from pathlib import Path
from typing import Any

from medmm.dicom.header import FileFacts, Identity
from medmm.dicom.types import AcquisitionHeader, Frame, Instance, PixelFormat, Skipped, TextReport
from medmm.types import Note

_SHARED: tuple[type, ...] = (AcquisitionHeader, PixelFormat, Identity)
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in (*_SHARED, Instance, Frame)}


class Encoder:
    """Turns facts into JSON-ready lists. One for each stream, because it remembers what it has written."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def facts(self, fact: FileFacts) -> list[Any]:
        """One file's facts."""
        skipped, report = fact.skipped, fact.report
        return [
            None if fact.identity is None else self._shared(fact.identity),
            None if fact.instance is None else self.instance(fact.instance),
            None if report is None else [str(report.path), report.sop_uid, report.content_date, report.is_final],
            None if skipped is None else [str(skipped.path), skipped.reason, skipped.code, skipped.series_uid],
            fact.sop_uid,
            list(fact.referenced),
        ]

    def instance(self, instance: Instance) -> list[Any]:
        """One image file."""
        values = []
        for name in _FIELDS[Instance]:
            value = getattr(instance, name)
            if name == "path":
                value = str(value)
            elif name in ("header", "pixels"):
                value = self._shared(value)
            elif name == "frames":
                value = [[getattr(frame, key) for key in _FIELDS[Frame]] for frame in value]
            elif name == "notes":
                value = [[note.code, note.message] for note in value]
            values.append(value)
        return values

    def _shared(self, value: Any) -> Any:
        """A number when written before, else [number, kind, fields]."""
        known = self._numbers.get(value)
        if known is not None:
            return known
        number = self._numbers[value] = len(self._numbers)
        kind = type(value)
        return [number, _SHARED.index(kind), [getattr(value, name) for name in _FIELDS[kind]]]


class Decoder:
    """Reads what an `Encoder` of the same stream wrote.

    Raises:
        ValueError, TypeError, IndexError, KeyError: The stream is torn or from another version.
    """

    def __init__(self) -> None:
        self._table: dict[int, Any] = {}
        self._orientations: dict[Any, Any] = {}

    def facts(self, plain: list[Any]) -> FileFacts:
        """One file's facts."""
        identity, instance, report, skipped, sop_uid, referenced = plain
        return FileFacts(
            identity=None if identity is None else self._shared(identity),
            instance=None if instance is None else self.instance(instance),
            report=None
            if report is None
            else TextReport(path=Path(report[0]), sop_uid=report[1], content_date=report[2], is_final=report[3]),
            skipped=None if skipped is None else Skipped(Path(skipped[0]), *skipped[1:]),
            sop_uid=sop_uid,
            referenced=tuple(referenced),
        )

    def instance(self, plain: list[Any]) -> Instance:
        """One image file."""
        values = dict(zip(_FIELDS[Instance], plain, strict=True))
        values["path"] = Path(values["path"])
        values["header"] = self._shared(values["header"])
        values["pixels"] = self._shared(values["pixels"])
        values["frames"] = tuple(self._frame(frame) for frame in values["frames"])
        values["notes"] = tuple(Note(*note) for note in values["notes"])
        lut = values["modality_lut"]
        values["modality_lut"] = None if lut is None else (lut[0], tuple(lut[1]))
        return Instance(**values)

    def _frame(self, plain: list[Any]) -> Frame:
        values = dict(zip(_FIELDS[Frame], plain, strict=True))
        values["position"] = tuple(values["position"])
        for name in ("orientation", "spacing"):
            value = tuple(values[name])
            values[name] = self._orientations.setdefault(value, value)
        values["tile"] = None if values["tile"] is None else tuple(values["tile"])
        pairs = tuple((pair[0], pair[1]) for pair in values["keys"])
        values["keys"] = tuple(self._orientations.setdefault(pair, pair) for pair in pairs)
        return Frame(**values)

    def _shared(self, plain: Any) -> Any:
        if isinstance(plain, int):
            return self._table[plain]
        number, kind_number, values = plain
        kind = _SHARED[kind_number]
        restored = [tuple(value) if isinstance(value, list) else value for value in values]
        value = kind(**dict(zip(_FIELDS[kind], restored, strict=True)))
        self._table[number] = value
        return value
