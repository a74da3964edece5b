"""Headers that repeat: slices of one series are walked once or twice, then compared byte for byte, which is far faster.

Two walked headers of one series show which top-level values differ from slice to slice. Cut at those values, a header
is a row of constant stretches, each ending where the length of a value stands. Another header that has every stretch
where the lengths put it, up to its pixels, can only be walked to the same attributes with other values in the gaps. All
bytes are compared, nested sequences included, so nothing gets by unchecked; whatever differs elsewhere is walked.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from medmm.dicom import tags
from medmm.dicom.limits import Limits
from medmm.dicom.parse import LONG_VRS, WANTED, Element
from medmm.dicom.source import FIRST_BYTES, META_START, OpenedFile

if TYPE_CHECKING:
    from medmm.dicom.header import FileFacts

_SPARE_BYTES = 512
_LARGEST_HEADER = 2**20  # bytes; larger ones are walked each time
_KEPT = 8  # patterns; echoes or b-values that take turns each have their own
# What one slice of a classic series may have for itself; all else that medmm reads is the same in the whole series.
_OF_A_SLICE = frozenset(
    {
        tags.SOP_INSTANCE_UID,
        tags.INSTANCE_NUMBER,
        tags.POSITION,
        tags.ORIENTATION,
        tags.RESCALE_SLOPE,
        tags.RESCALE_INTERCEPT,
        tags.TEMPORAL_POSITION,
        tags.TRIGGER_TIME,
        tags.ACQUISITION_NUMBER,
        tags.ACQUISITION_TIME,
        tags.CONTENT_TIME,
        tags.B_VALUE_SIEMENS,
        tags.B_VALUE_GE,
        tags.B_VALUE_PHILIPS,
        tags.CSA_IMAGE_HEADER,  # read for mosaics only, which make no pattern
        tags.CONTENT_DATE,  # read for reports only
        tags.TEMPORAL_POSITION_INDEX,  # read in functional groups only
    }
)
# What a slice is read with besides, equal in all of them.
_OF_THE_SERIES = (tags.PIXEL_SPACING, tags.INVERSION_TIME, tags.FLIP_ANGLE, tags.CONVOLUTION_KERNEL)
_ONCE_A_SERIES = WANTED - _OF_A_SLICE
_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_GROUP, _ITEM_NUMBER = 0xFFFE, 0xE000
_IS_LONG = np.zeros(2**16, dtype=bool)
_IS_LONG[[int.from_bytes(vr, "little") for vr in LONG_VRS]] = True
_SQ = int.from_bytes(b"SQ", "little")


@dataclass(frozen=True, slots=True)
class _Gap:
    """A value that differs: the constant bytes before it, the bytes of its length, its tag and VR."""

    before: bytes
    width: int
    tag: int
    vr: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """The header of a series with its gaps, and what its first file was found to be."""

    gaps: tuple[_Gap, ...]
    tail: bytes  # from the last gap to the pixels
    fixed: tuple[tuple[int, str, int, int, int], ...]  # tag, VR, stretch, place in it, length
    shape: bytes  # tags and VRs of all top-level attributes
    size: int  # bytes before the pixels
    is_explicit: bool
    series_uid: str
    facts: "FileFacts"

    def match(self, head: bytes) -> tuple[dict[int, Element], int] | None:
        """Return what a slice has for itself, and where its pixels start; None when the header differs elsewhere."""
        position, starts, elements = 0, [], {}
        for gap in self.gaps:
            if not head.startswith(gap.before, position):
                return None
            starts.append(position)
            position += len(gap.before)
            start = position + gap.width
            length = int.from_bytes(head[position:start], "little")
            if length & 1 or (not self.is_explicit and head.startswith(_ITEM, start)):
                return None
            position = start + length
            if gap.tag in _OF_A_SLICE:
                elements[gap.tag] = Element(gap.vr, start, position)
        if not head.startswith(self.tail, position):
            return None
        starts.append(position)
        for tag, vr, stretch, place, length in self.fixed:
            start = starts[stretch] + place
            elements[tag] = Element(vr, start, start + length)
        return elements, position + len(self.tail)


@dataclass(frozen=True, slots=True)
class _Header:
    """A walked header and its top-level attributes in order, from the meta group to the pixels."""

    buffer: bytes
    shape: bytes  # tags and VRs
    tags: list[int]
    vrs: list[int]  # two letters as a number, 0 when implicit
    positions: list[int]
    starts: list[int]  # of the values
    widths: list[int]  # bytes of the length, which stands right before the value
    is_sequence: list[bool]

    def differing(self, other: "_Header") -> set[int]:
        """Tags of the attributes whose bytes are not the same in two headers; all when one has others."""
        if self.shape != other.shape:
            return set(self.tags)
        pieces = zip(self.tags, pairwise(self.positions), pairwise(other.positions), strict=False)
        return {
            tag
            for tag, (one, after), (its, its_after) in pieces
            if self.buffer[one:after] != other.buffer[its:its_after]
        }

    def may_differ(self) -> set[int]:
        """Tags that a pattern may leave open: no sequence, and nothing that is read once for the whole series."""
        plain = {tag for tag, is_sequence in zip(self.tags, self.is_sequence, strict=True) if not is_sequence}
        return plain - _ONCE_A_SERIES


@dataclass(slots=True)
class Repeats:
    """The patterns met last, the latest first, for files read under the same limits."""

    limits: Limits
    _patterns: tuple[Pattern, ...] = ()
    _walked: dict[Hashable, _Header | None] = field(default_factory=dict)  # None: the series makes no pattern

    @property
    def first_bytes(self) -> int:
        """How much of a file to read at first: what the last pattern took and a little more."""
        return max(self._patterns[0].size + _SPARE_BYTES, FIRST_BYTES // 8) if self._patterns else FIRST_BYTES

    def find(self, head: bytes) -> tuple[Pattern, dict[int, Element], int] | None:
        """Return the pattern that a header follows, the values it has for itself, and where its pixels start."""
        for pattern in self._patterns:
            found = pattern.match(head)
            if found is not None:
                if pattern is not self._patterns[0]:
                    self._patterns = (pattern, *(other for other in self._patterns if other is not pattern))
                return pattern, *found
        return None

    def learn(self, opened: OpenedFile, facts: "FileFacts") -> None:
        """Take in a walked file: its header becomes a pattern as soon as it is known what differs in such headers."""
        if not _may_repeat(opened, facts):
            return
        assert facts.instance is not None and facts.identity is not None
        instance, series_uid = facts.instance, facts.identity.series_uid
        key = (facts.identity, instance.header, instance.pixels, instance.pixel_length, instance.notes)
        if key in self._walked and self._walked[key] is None:
            return
        header = _lay_out(opened)
        shape, before = header.shape, self._walked.get(key)
        alike = [pattern for pattern in self._patterns if pattern.shape == shape]
        differing = {gap.tag for pattern in alike for gap in pattern.gaps}
        if before is not None:
            differing |= header.differing(before)
        may_differ = header.may_differ()
        is_hopeless = not differing <= may_differ
        if key not in self._walked and len(self._walked) >= _KEPT:
            self._walked.clear()
        self._walked[key] = None if is_hopeless else header
        if differing and not is_hopeless:
            pattern = _cut(header, differing | (_OF_A_SLICE & may_differ), opened, facts)
            done = [old for old in alike if old.series_uid != series_uid]  # files come a series at a time
            self._patterns = (pattern, *(old for old in self._patterns if old not in done))[:_KEPT]


def _may_repeat(opened: OpenedFile, facts: "FileFacts") -> bool:
    """Whether a file is a plain slice: little endian, clean, with one frame that its own top level describes."""
    instance = facts.instance
    return (
        instance is not None
        and len(instance.frames) == 1
        and instance.frames[0].tile is None
        and instance.modality_lut is None
        and opened.inflated is None
        and not opened.is_big_endian
        and not opened.notes
        and not opened.walk.odd_tags
        and opened.walk.pixels is not None
        and opened.walk.pixels.start <= _LARGEST_HEADER
        and tags.SHARED_GROUPS not in opened.dataset
        and tags.PER_FRAME_GROUPS not in opened.dataset
    )


def _lay_out(opened: OpenedFile) -> _Header:
    """Return the top-level attributes of a file that was walked without complaint."""
    buffer, meta, position = opened.dataset.buffer, [], META_START
    while position < opened.start:
        meta.append(position)
        width = 4 if buffer[position + 4 : position + 6] in LONG_VRS else 2
        start = position + 4 + 2 * width
        position = start + int.from_bytes(buffer[start - width : start], "little")
    positions = np.array(meta + opened.walk.positions)
    padded = buffer + bytes(16)  # so that looking at a value never leaves it
    pairs = np.ndarray((len(padded) - 1,), "<u2", padded, strides=(1,))
    has_vr = (positions < opened.start) | opened.is_explicit
    vrs = np.where(has_vr, pairs[positions + 4], 0)
    is_long = _IS_LONG[vrs]
    starts = positions + np.where(is_long, 12, 8)
    is_four = is_long | ~has_vr
    is_item = (pairs[starts] == _ITEM_GROUP) & (pairs[starts + 2] == _ITEM_NUMBER)
    is_open = (pairs[starts - 4] == 0xFFFF) & (pairs[starts - 2] == 0xFFFF) & is_four
    numbers = pairs[positions].astype(np.uint32) << 16 | pairs[positions + 2]
    return _Header(
        buffer=buffer,
        shape=numbers.tobytes() + vrs.tobytes(),
        tags=numbers.tolist(),
        vrs=vrs.tolist(),
        positions=positions.tolist(),
        starts=starts.tolist(),
        widths=np.where(is_four, 4, 2).tolist(),
        is_sequence=(is_item | is_open | (vrs == _SQ)).tolist(),
    )


def _cut(header: _Header, differing: set[int], opened: OpenedFile, facts: "FileFacts") -> Pattern:
    """Cut a header at its differing values."""
    assert opened.walk.pixels is not None and facts.identity is not None
    buffer, size = header.buffer, opened.walk.pixels.start
    gaps: list[_Gap] = []
    fixed: list[tuple[int, str, int, int, int]] = []
    at = 0
    for n, (tag, stop) in enumerate(zip(header.tags, header.positions[1:], strict=False)):
        start, vr = header.starts[n], header.vrs[n].to_bytes(2, "little").decode("ascii").strip("\0")
        if tag in differing:
            gaps.append(_Gap(buffer[at : start - header.widths[n]], header.widths[n], tag, vr))
            at = stop
        elif tag in _OF_THE_SERIES:
            fixed.append((tag, vr, len(gaps), start - at, stop - start))
    return Pattern(
        gaps=tuple(gaps),
        tail=buffer[at:size],
        fixed=tuple(fixed),
        shape=header.shape,
        size=size,
        is_explicit=opened.is_explicit,
        series_uid=facts.identity.series_uid,
        facts=facts,
    )
