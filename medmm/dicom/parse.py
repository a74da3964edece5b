"""A strict, bounded walk over the encoded attributes of a data set (DICOM PS3.5 chapter 7).

Lenient parsers call a ruined file a success; here every length is checked against the bytes that are there, nesting and
element counts are capped, and nothing is allocated on the word of a header. Values are left as byte ranges; what they
mean is `attributes.py`'s business.
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from medmm.dicom import tags
from medmm.dicom.limits import Limits
from medmm.errors import InputError

UNDEFINED = 0xFFFFFFFF
HUGE_ELEMENT = 2**30  # a header attribute of a gibibyte is an attack or an error, never a cut file
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split(),
)


_PLAIN_SHORT = {vr: vr.decode("ascii") for vr in SHORT_VRS}
_PLAIN_LONG = {vr: vr.decode("ascii") for vr in LONG_VRS - {b"UN"}}
_LAZY_SEQUENCE = 320  # bytes; a sequence this short nests at most 16 deep and is walked only when asked for
_PIXEL_GROUP = 0x7FE0
WANTED = frozenset(value for name, value in vars(tags).items() if name.isupper() and isinstance(value, int))


class NeedMoreBytesError(Exception):
    """The walk reached the end of the bytes read so far, not of the file: read more and start again."""


class Element(NamedTuple):
    """One attribute: its VR ("" when implicit), the byte range of its value, and its items when it is a sequence."""

    vr: str
    start: int
    stop: int
    items: "list[dict[int, Element]] | None" = None


@dataclass(slots=True, kw_only=True)
class Walk:
    """The top level of a data set. `pixels` is the pixel attribute, whose `stop` is `UNDEFINED` when encapsulated."""

    elements: dict[int, Element] = field(default_factory=dict)
    positions: list[int] = field(default_factory=list)  # where each attribute of the top level begins, pixels last
    count: int = 0  # attributes walked, nested ones included
    pixels: Element | None = None
    pixels_tag: int = 0
    odd_tags: list[int] = field(default_factory=list)  # unknown VR or odd length, tolerated where not needed


@dataclass(slots=True)
class _Level:
    """One open container: a list of items (`items`) or a data set (`elements`), and where it ends."""

    end: int  # UNDEFINED: closed by a delimiter
    elements: dict[int, Element] | None
    items: list[dict[int, Element]] | None
    explicit: bool


def walk(
    buffer: bytes, start: int, size: int, result: Walk, *, explicit: bool, big_endian: bool, limits: Limits
) -> None:
    """Collect the attributes of the data set that starts at byte `start`, up to its pixels.

    Args:
        buffer: The file's first bytes (or all of them).
        start: Where the data set begins.
        size: Bytes in the whole file; lengths are checked against it.
        result: Filled in place, so that what came before a failure is known.
        explicit: Whether VRs are written out.
        big_endian: Byte order of tags, lengths and binary values.
        limits: Caps on depth and element count.
    Raises:
        NeedMoreBytesError: `buffer` ends before the header does.
        InputError: dicom.truncated, dicom.malformed, dicom.nesting.
    """
    _Walker(buffer, size, result, explicit, big_endian, limits).run(start)


def walk_items(buffer: bytes, element: Element, *, big_endian: bool, limits: Limits) -> list[dict[int, Element]]:
    """Return the items of a short sequence that the walk left unopened.

    Raises:
        InputError: dicom.malformed, dicom.truncated.
    """
    items: list[dict[int, Element]] = []
    walker = _Walker(buffer, element.stop, Walk(), explicit=True, big_endian=big_endian, limits=limits)
    walker.levels.append(_Level(element.stop, None, items, True))
    walker.run(element.start)
    return items


class _Walker:
    """Iterative, so that depth costs no Python stack. One instance walks one data set."""

    def __init__(
        self, buffer: bytes, size: int, result: Walk, explicit: bool, big_endian: bool, limits: Limits
    ) -> None:
        self.buffer, self.size, self.limits = buffer, size, limits
        order = ">" if big_endian else "<"
        self.tag_struct = struct.Struct(order + "HH")
        self.head = struct.Struct(order + "HH2sH")
        self.u16 = struct.Struct(order + "H")
        self.u32 = struct.Struct(order + "L")
        self.result = result
        self.levels = [_Level(size, self.result.elements, None, explicit)]

    def run(self, start: int) -> None:
        position, levels = start, self.levels
        while True:
            level = levels[-1]
            if position >= level.end and level.end != UNDEFINED:
                if position > level.end:
                    raise _malformed("an attribute reaches past the sequence that holds it")
                if len(levels) == 1:
                    return
                levels.pop()
                continue
            if position >= self.size:
                raise self._unclosed()
            if level.items is not None:
                position = self._item(level, position)
                continue
            if level.explicit:
                position = self._plain_run(level, position)
                if position >= level.end:
                    continue
            position = self._element(level, position)
            if position < 0:
                return

    def _plain_run(self, level: _Level, position: int) -> int:
        """Step over attributes that need no second look, nearly all of a header, in one tight loop.

        Only those that `tags` names are kept.

        Stops, having changed nothing for it, at the first that is anything else: a sequence, pixels, a delimiter, an
        unknown VR, an odd or surplus length, a repeated tag, the end of the bytes. `_element` then judges that one.
        """
        buffer, elements = self.buffer, level.elements
        unpack, unpack_length = self.head.unpack_from, self.u32.unpack_from
        assert elements is not None
        positions = self.result.positions if len(self.levels) == 1 else []
        last = min(len(buffer), self.size, level.end)
        count, make = 0, tuple.__new__
        while position + 12 <= last:
            group, number, vr, length = unpack(buffer, position)
            name = _PLAIN_SHORT.get(vr)
            start = position + 8
            if name is None:
                name = _PLAIN_LONG.get(vr)
                if name is None:
                    break
                length = unpack_length(buffer, start)[0]
                start += 4
                if vr == b"SQ" and length > _LAZY_SEQUENCE:
                    break
            limit = start + length
            if limit > last or length & 1 or group >= _PIXEL_GROUP:
                break
            tag = group << 16 | number
            if tag in WANTED:
                if tag in elements:
                    break
                elements[tag] = make(Element, (name, start, limit, None))
            positions.append(position)
            count += 1
            position = limit
        self.result.count += count
        if self.result.count > self.limits.elements:
            raise _malformed(f"more than {self.limits.elements} attributes")
        return position

    def _need(self, stop: int) -> None:
        if stop > self.size:
            raise _truncated()
        if stop > len(self.buffer):
            raise NeedMoreBytesError

    def _tag(self, position: int) -> int:
        group, element = self.tag_struct.unpack_from(self.buffer, position)
        return (group << 16) | element

    def _item(self, level: _Level, position: int) -> int:
        """Step over an item tag of a sequence; opens the item's data set."""
        self._need(position + 8)
        tag, length = self._tag(position), self.u32.unpack_from(self.buffer, position + 4)[0]
        if tag == tags.SEQUENCE_END:
            if level.end != UNDEFINED:
                raise _malformed("a sequence of stated length holds a delimiter")
            self.levels.pop()
            return position + 8
        if tag != tags.ITEM or level.items is None:
            raise _malformed("a sequence holds something that is not an item")
        item: dict[int, Element] = {}
        level.items.append(item)
        self._open(position + 8, length, item, None, level.explicit)
        return position + 8

    def _element(self, level: _Level, position: int) -> int:
        """Step over one attribute; returns -1 where the pixels begin."""
        self._need(position + 8)
        self.result.count += 1
        if self.result.count > self.limits.elements:
            raise _malformed(f"more than {self.limits.elements} attributes")
        tag = self._tag(position)
        if tag >> 16 == 0xFFFE:
            if tag == tags.ITEM_END and level.end == UNDEFINED:
                self.levels.pop()
                return position + 8
            raise _malformed("a delimiter stands where an attribute is due")
        vr, value, length = self._head(level, position, tag)
        if len(self.levels) == 1:
            self.result.positions.append(position)
            if tag in tags.PIXEL_TAGS:
                return self._pixels(tag, vr, value, length)
        assert level.elements is not None
        if tag in level.elements and len(self.levels) == 1:
            raise _malformed(f"{tags.name_of(tag)} occurs twice")
        if length == UNDEFINED or vr == b"SQ" or (not vr and self._starts_item(value, length)):
            items: list[dict[int, Element]] = []
            level.elements[tag] = Element("SQ", value, value, items)
            # PS3.5 6.2.2: a UN of undefined length holds implicit VR little endian.
            self._open(value, length, None, items, level.explicit and vr != b"UN")
            return value
        return self._plain(level, tag, vr, value, length)

    def _plain(self, level: _Level, tag: int, vr: bytes, value: int, length: int) -> int:
        stop = value + length
        if stop > (self.size if level.end == UNDEFINED else level.end):
            if length >= HUGE_ELEMENT:
                raise _malformed(f"{tags.name_of(tag)} claims {length} bytes")
            if stop > self.size:
                raise _truncated()
            raise _malformed(f"{tags.name_of(tag)} is longer than the sequence that holds it")
        if length & 1:
            self.result.odd_tags.append(tag)
        assert level.elements is not None
        level.elements[tag] = Element(vr.decode("ascii"), value, stop)
        return stop

    def _head(self, level: _Level, position: int, tag: int) -> tuple[bytes, int, int]:
        """Return VR, start of the value, and its length."""
        if not level.explicit:
            return b"", position + 8, self.u32.unpack_from(self.buffer, position + 4)[0]
        vr = self.buffer[position + 4 : position + 6]
        if vr in SHORT_VRS:
            return vr, position + 8, self.u16.unpack_from(self.buffer, position + 6)[0]
        if vr not in LONG_VRS:
            if not (vr.isalpha() and vr.isupper()):
                raise _malformed(f"{tags.name_of(tag)} has no value representation (wrong transfer syntax?)")
            self.result.odd_tags.append(tag)
            if self.u16.unpack_from(self.buffer, position + 6)[0]:
                return b"UN", position + 8, self.u16.unpack_from(self.buffer, position + 6)[0]
        self._need(position + 12)
        return (vr if vr in LONG_VRS else b"UN"), position + 12, self.u32.unpack_from(self.buffer, position + 8)[0]

    def _pixels(self, tag: int, vr: bytes, value: int, length: int) -> int:
        stop = UNDEFINED if length == UNDEFINED else value + length
        if stop != UNDEFINED and stop > self.size:
            # Left to the caller, who knows what the image claims: too large comes before too short.
            stop = self.size + 1
        self.result.pixels, self.result.pixels_tag = Element(vr.decode("ascii"), value, stop), tag
        return -1

    def _starts_item(self, value: int, length: int) -> bool:
        """Implicit VR does not name sequences; a value that begins with an item tag is one."""
        if length < 8 or value + 4 > min(len(self.buffer), self.size):
            return False
        return self._tag(value) == tags.ITEM

    def _open(
        self,
        start: int,
        length: int,
        elements: dict[int, Element] | None,
        items: list[dict[int, Element]] | None,
        explicit: bool,
    ) -> None:
        end = UNDEFINED if length == UNDEFINED else start + length
        outer = self.levels[-1].end
        if end != UNDEFINED and end > (self.size if outer == UNDEFINED else outer):
            if length >= HUGE_ELEMENT or end <= self.size:
                raise _malformed("a sequence claims more bytes than there are")
            raise _truncated()
        self.levels.append(_Level(end, elements, items, explicit))
        if len(self.levels) > 2 * self.limits.depth + 1:
            raise InputError(
                f"Expected at most {self.limits.depth} nested sequences (got more).",
                code="dicom.nesting",
                remedy="Re-export the series.",
            )

    def _unclosed(self) -> InputError:
        """The file ended inside open sequences: swallowed pixels mean a missing delimiter, else it was cut."""
        for level in self.levels[1:]:
            if level.elements is not None and tags.PIXEL_DATA in level.elements:
                return _malformed("a sequence of undefined length is never closed")
        return _truncated()


def _truncated() -> InputError:
    return InputError(
        "Expected the data set to be complete (got a file that ends inside it).",
        code="dicom.truncated",
        remedy="Copy or export the file again.",
    )


def _malformed(what: str) -> InputError:
    return InputError(
        f"Expected well-formed DICOM (got a data set in which {what}).",
        code="dicom.malformed",
        remedy="Export the series again.",
    )
