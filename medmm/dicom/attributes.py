"""Typed access to the attributes of a walked data set: text, numbers, items; errors name the tag as DICOM does."""

import math
import struct
from collections.abc import Mapping

from medmm.dicom import tags
from medmm.dicom.limits import DEFAULT_LIMITS
from medmm.dicom.parse import Element, walk_items
from medmm.errors import InputError

_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "OW": "H", "OF": "f", "OD": "d"}
_TEXT_LIMIT = 4096  # characters of one value kept; descriptions of a megabyte help nobody


class DataSet:
    """One level of attributes over the bytes they lie in. Values are decoded when asked for."""

    __slots__ = ("buffer", "charsets", "elements", "is_big_endian")

    def __init__(
        self, buffer: bytes, elements: Mapping[int, Element], *, is_big_endian: bool, charsets: tuple[str, ...] = ()
    ) -> None:
        self.buffer, self.elements, self.is_big_endian = buffer, elements, is_big_endian
        own = self.texts(tags.SPECIFIC_CHARACTER_SET) if tags.SPECIFIC_CHARACTER_SET in elements else ()
        self.charsets = own or charsets

    def __contains__(self, tag: int) -> bool:
        return tag in self.elements

    def raw(self, tag: int) -> bytes:
        """The bytes of a value; empty when the attribute is absent."""
        element = self.elements.get(tag)
        return b"" if element is None else self.buffer[element.start : element.stop]

    def items(self, tag: int) -> "list[DataSet]":
        """The items of a sequence; empty when it is absent or not a sequence."""
        element = self.elements.get(tag)
        if element is None:
            return []
        items = element.items
        if items is None:
            if element.vr != "SQ" or element.start == element.stop:
                return []
            items = walk_items(self.buffer, element, big_endian=self.is_big_endian, limits=DEFAULT_LIMITS)
        return [DataSet(self.buffer, item, is_big_endian=self.is_big_endian, charsets=self.charsets) for item in items]

    def first(self, tag: int) -> "DataSet | None":
        """The first item of a sequence, if any."""
        items = self.items(tag)
        return items[0] if items else None

    def texts(self, tag: int) -> tuple[str, ...]:
        """Values of a code, identifier or UID attribute (default repertoire), stripped, empty ones kept as ''."""
        raw = self.raw(tag)
        if not raw:
            return ()
        values = raw[:_TEXT_LIMIT].decode("ascii", "replace").split("\\")
        return tuple(value.strip(" \0") for value in values)

    def text(self, tag: int) -> str:
        """The first value of a code, identifier or UID attribute; '' when absent."""
        values = self.texts(tag)
        return values[0] if values else ""

    def label(self, tag: int) -> str:
        """A text value in the data set's character set (descriptions, names); undecodable bytes become U+FFFD."""
        raw = self.raw(tag)[:_TEXT_LIMIT]
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").strip(" \0")
        return decode_text(raw, self.charsets).strip(" \0")

    def numbers(self, tag: int) -> tuple[float, ...]:
        """All values of a numeric attribute.

        Raises:
            InputError: dicom.bad_value when one is not a finite number.
        """
        raw = self.raw(tag)
        if not raw:
            return ()
        code = _BINARY.get(self.elements[tag].vr or tags.VR_OF.get(tag, ""))
        if code is not None:
            return self._unpack(tag, code, raw)
        try:
            parts = raw.strip(b" \0").split(b"\\")
            values = tuple(float(part) for part in parts) if parts != [b""] else ()
        except ValueError:
            raise bad_value(tag, "a number", "something else") from None
        if not all(math.isfinite(value) for value in values):
            raise bad_value(tag, "a finite number", "NaN or infinity")
        return values

    def _unpack(self, tag: int, code: str, raw: bytes) -> tuple[float, ...]:
        width = struct.calcsize("<" + code)
        if len(raw) % width:
            raise bad_value(tag, f"values of {width} bytes", f"{len(raw)} bytes")
        values = struct.unpack(f"{'>' if self.is_big_endian else '<'}{len(raw) // width}{code}", raw)
        if not all(math.isfinite(value) for value in values):
            raise bad_value(tag, "a finite number", "NaN or infinity")
        return values

    def number(self, tag: int) -> float | None:
        """The only value of a numeric attribute, None when absent or empty.

        Raises:
            InputError: dicom.bad_value, or dicom.missing_tag when there are several values.
        """
        values = self.numbers(tag)
        if not values:
            return None
        if len(values) > 1:
            raise InputError(
                f"Expected one value in {tags.name_of(tag)} (got {len(values)}).",
                code="dicom.missing_tag",
                remedy="Export the series again.",
            )
        return values[0]

    def lenient_number(self, tag: int) -> float | None:
        """The first value of a numeric attribute that nothing depends on; None when absent or unreadable."""
        try:
            values = self.numbers(tag)
        except InputError:
            return None
        return values[0] if values else None

    def whole(self, tag: int, default: int | None = None) -> int:
        """A required whole number (or `default` when absent).

        Raises:
            InputError: dicom.missing_tag or dicom.bad_value, naming the tag.
        """
        value = self.number(tag)
        if value is None:
            if default is None:
                raise missing(tag)
            return default
        if value != int(value):
            raise bad_value(tag, "a whole number", "a fraction")
        return int(value)


def decode_text(raw: bytes, charsets: tuple[str, ...]) -> str:
    """Return text decoded as (0008,0005) says, with U+FFFD for what does not decode (never an error)."""
    from pydicom.charset import decode_bytes, python_encoding

    encodings = []
    for name in charsets or ("",):
        encoding = python_encoding.get(name, "utf-8" if name.upper() in {"UTF-8", "UTF8"} else None)
        encodings.append(encoding or "latin-1")
    if b"\x1b" not in raw or len(encodings) == 1:
        return raw.decode(encodings[0], "replace")
    try:
        return str(decode_bytes(raw, encodings, {0x5C, 0x5E, 0x3D}))
    except (LookupError, UnicodeError):
        return raw.decode(encodings[0], "replace")


def missing(tag: int) -> InputError:
    """The error for a needed attribute that is absent."""
    return InputError(
        f"Expected {tags.name_of(tag)} (got none).",
        code="dicom.missing_tag",
        remedy="Export the series again with all of its attributes.",
    )


def bad_value(tag: int, expected: str, found: str) -> InputError:
    """The error for a needed attribute whose value the standard does not allow."""
    return InputError(
        f"Expected {expected} in {tags.name_of(tag)} (got {found}).",
        code="dicom.bad_value",
        remedy="Export the series again.",
    )
