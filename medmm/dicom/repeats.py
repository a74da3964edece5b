"""Headers that repeat: slices of one series are walked once or twice, then compared byte for byte, which is far faster.

Two walked headers of one series show which top-level values differ from slice to slice. Cut at those values, a header
is a row of constant stretches, each ending where the length of a value stands. Another header that has every stretch
where the lengths put it, up to its pixels, can only be walked to the same attributes with other values in the gaps. All
bytes are compared, nested sequences included, so nothing gets by unchecked; whatever differs elsewhere is walked.
"""

import struct
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

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
_ITEM = b"\xfe\xff\x00\xe0"
_UNDEFINED = b"\xff\xff\xff\xff"
_TAG = struct.Struct("<HH")


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
    shape: tuple[tuple[int, str], ...]  # tags and VRs of all top-level attributes
    size: int  # bytes before the pixels
    is_explicit: bool
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


class _Top(NamedTuple):
    """A top-level attribute: its place, tag, VR (SQ for all sequences), width of its length, start of its value."""

    position: int
    tag: int
    vr: str
    width: int
    start: int


@dataclass(slots=True)
class Repeats:
    """The patterns met last, the latest first, for files read under the same limits."""

    limits: Limits
    _patterns: tuple[Pattern, ...] = ()
    _walked: dict[Hashable, tuple[list[_Top], bytes] | None] = field(default_factory=dict)

    @property
    def first_bytes(self) -> int:
        """How much of a file to read at first: what the last pattern took and a little more."""
        return max(self._patterns[0].size + _SPARE_BYTES, FIRST_BYTES // 8) if self._patterns else FIRST_BYTES

    def _remember(self, key: Hashable, walked: "tuple[list[_Top], bytes] | None") -> None:
        """Keep a walked header for comparison; None says that its series makes no pattern."""
        if key not in self._walked and len(self._walked) >= _KEPT:
            self._walked.clear()
        self._walked[key] = walked

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
        assert facts.instance is not None
        instance = facts.instance
        key = (facts.identity, instance.header, instance.pixels, instance.pixel_length, instance.notes)
        if key in self._walked and self._walked[key] is None:
            return  # of a series in which more differs than a pattern may leave open
        tops = _tops(opened)
        shape = tuple([(top.tag, top.vr) for top in tops])
        differing = {gap.tag for pattern in self._patterns if pattern.shape == shape for gap in pattern.gaps}
        before = self._walked.get(key)
        if before is not None:
            differing |= _differing(before, tops, opened.dataset.buffer)
        elif not differing:
            self._remember(key, (tops, opened.dataset.buffer))
            return
        may_differ = {tag for tag, vr in shape if vr != "SQ" and (tag not in WANTED or tag in _OF_A_SLICE)}
        if not differing <= may_differ:
            self._remember(key, None)
            return
        self._remember(key, (tops, opened.dataset.buffer))
        pattern = _cut(opened, tops, differing | (_OF_A_SLICE & may_differ), facts)
        self._patterns = (pattern, *self._patterns)[:_KEPT]


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


def _differing(walked: "tuple[list[_Top], bytes]", tops: "list[_Top]", head: bytes) -> set[int]:
    """Tags of top-level attributes whose bytes are not the same in two headers; all of them when one has others."""
    before, other = walked
    if [top.tag for top in before] != [top.tag for top in tops]:
        return {top.tag for top in tops}
    return {
        top.tag
        for (top, after), (its, its_after) in zip(pairwise(tops), pairwise(before), strict=True)
        if head[top.position : after.position] != other[its.position : its_after.position]
    }


def _tops(opened: OpenedFile) -> list[_Top]:
    """All top-level attributes of a walked file, those of its meta group first, its pixels last."""
    buffer = opened.dataset.buffer
    found, position = [], META_START
    while position < opened.start:
        top = _top(buffer, position, is_explicit=True)
        found.append(top)
        position = top.start + int.from_bytes(buffer[top.start - top.width : top.start], "little")
    return found + [_top(buffer, position, is_explicit=opened.is_explicit) for position in opened.walk.positions]


def _top(buffer: bytes, position: int, *, is_explicit: bool) -> _Top:
    group, number = _TAG.unpack_from(buffer, position)
    vr = buffer[position + 4 : position + 6] if is_explicit else b""
    is_long = vr in LONG_VRS
    start = position + (12 if is_long else 8)
    width = 4 if is_long or not is_explicit else 2
    is_sequence = buffer.startswith(_ITEM, start) or buffer[start - width : start] == _UNDEFINED
    return _Top(position, group << 16 | number, "SQ" if is_sequence else vr.decode("ascii"), width, start)


def _cut(opened: OpenedFile, tops: list[_Top], differing: set[int], facts: "FileFacts") -> Pattern:
    """Cut a header at its differing values."""
    head = opened.dataset.buffer
    gaps: list[_Gap] = []
    fixed: list[tuple[int, str, int, int, int]] = []
    at = 0
    for top, after in pairwise(tops):
        if top.tag in differing:
            gaps.append(_Gap(head[at : top.start - top.width], top.width, top.tag, top.vr))
            at = after.position
        elif top.tag in _OF_THE_SERIES:
            fixed.append((top.tag, top.vr, len(gaps), top.start - at, after.position - top.start))
    assert opened.walk.pixels is not None
    size = opened.walk.pixels.start
    return Pattern(
        gaps=tuple(gaps),
        tail=head[at:size],
        fixed=tuple(fixed),
        shape=tuple((top.tag, top.vr) for top in tops),
        size=size,
        is_explicit=opened.is_explicit,
        facts=facts,
    )
