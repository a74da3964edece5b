"""From a path to a walked data set: preamble, file meta information, transfer syntax, deflate."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medmm.dicom import syntaxes
from medmm.dicom.attributes import DataSet
from medmm.dicom.disk import open_regular, read_at
from medmm.dicom.kinds import kind_of
from medmm.dicom.limits import Limits
from medmm.dicom.parse import LONG_VRS, NeedMoreBytesError, Walk, walk
from medmm.errors import InputError
from medmm.types import Note

FIRST_BYTES = 2**15  # holds nearly every header; grown 8 times over where it does not
_META_LIMIT = 2**20
META_START = 132  # after preamble and prefix
_TRAILING_GROUPS = (b"\xfc\xff", b"\xfa\xff", b"\xff\xfc", b"\xff\xfa")  # trailing padding, digital signatures
_PROGRAM_MAGIC = (b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa", b"#!")


class BrokenHeaderError(InputError):
    """The data set cannot be walked to its end; `dataset` holds what came before."""

    def __init__(self, cause: InputError, dataset: DataSet) -> None:
        super().__init__(cause.message, code=cause.code, remedy=cause.remedy)
        self.dataset = dataset


class NotDicomError(Exception):
    """The file is no DICOM file; the message says what it looks like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """A file's attributes up to its pixels. `inflated` holds the whole data set when it was deflated."""

    dataset: DataSet
    start: int  # of the data set in its buffer
    walk: Walk
    transfer_syntax: str
    is_explicit: bool
    is_big_endian: bool
    size: int
    mtime_ns: int
    media_class: str
    inflated: bytes | None = None
    notes: tuple[Note, ...] = ()


def read_header(path: Path, limits: Limits) -> OpenedFile:
    """Return the attributes of a DICOM file, its pixels left on disk.

    Raises:
        NotDicomError: It is something else (a SKIP, not a failure).
        InputError: dicom.* and limit.inflate, or io.unreadable.
    """
    with open_header(path, limits) as header:
        return header.read()


@contextmanager
def open_header(path: Path, limits: Limits, first_bytes: int = FIRST_BYTES) -> "Iterator[Header]":
    """Open a file and read its first bytes; closed at the end of the block.

    Raises:
        InputError: io.unreadable.
    """
    descriptor = open_regular(path)
    try:
        status = os.fstat(descriptor)
        head = read_at(descriptor, first_bytes, 0)
        yield Header(descriptor, status.st_size, status.st_mtime_ns, limits, head)
    finally:
        os.close(descriptor)


class Header:
    """One open file: which encoding, then the walk, with more bytes when the header asks for them."""

    def __init__(self, descriptor: int, size: int, mtime_ns: int, limits: Limits, head: bytes) -> None:
        self.descriptor, self.size, self.mtime_ns, self.limits, self.head = descriptor, size, mtime_ns, limits, head

    def read(self) -> OpenedFile:
        """Return the attributes of the file, its pixels left on disk.

        Raises:
            NotDicomError, InputError: As `read_header`.
        """
        head = self.head
        notes: list[Note] = []
        if head[128:132] == b"DICM":
            if head.startswith(_PROGRAM_MAGIC):
                notes.append(Note("dicom.polyglot", "The preamble starts like an executable program."))
            start, syntax, media_class = self._meta(head)
        else:
            start, syntax, media_class = self._without_preamble(head)
            notes.append(Note("dicom.no_meta", "The file has no preamble; its encoding was found from its content."))
        is_explicit = syntax not in (syntaxes.IMPLICIT, syntaxes.GE_PRIVATE_BIG_ENDIAN)
        is_big_endian = syntax == syntaxes.BIG_ENDIAN
        inflated = self._inflate(start) if syntax == syntaxes.DEFLATED else None
        if inflated is not None:
            buffer, size, start = inflated, len(inflated), 0
        else:
            buffer, size = head, self.size
        result, buffer = self._walk(buffer, start, size, is_explicit, is_big_endian, inflated is not None)
        if not result.count:
            raise InputError(
                "Expected attributes after the file meta information (got an empty data set).",
                code="dicom.empty",
                remedy="Export the file again.",
            )
        if inflated is None and result.pixels is not None:
            notes += self.after_pixels(result.pixels.stop, is_explicit, is_big_endian)
        dataset = DataSet(buffer, result.elements, is_big_endian=is_big_endian)
        return OpenedFile(
            dataset=dataset,
            start=start,
            walk=result,
            transfer_syntax=syntax,
            is_explicit=is_explicit,
            is_big_endian=is_big_endian,
            size=self.size,
            mtime_ns=self.mtime_ns,
            media_class=media_class,
            inflated=inflated,
            notes=tuple(notes),
        )

    def _walk(
        self, buffer: bytes, start: int, size: int, is_explicit: bool, is_big_endian: bool, is_whole: bool
    ) -> tuple[Walk, bytes]:
        wanted = len(buffer)
        while True:
            result = Walk()
            try:
                walk(buffer, start, size, result, explicit=is_explicit, big_endian=is_big_endian, limits=self.limits)
            except NeedMoreBytesError:
                if is_whole or wanted >= size:
                    raise _truncated() from None
            except InputError as error:
                dataset = DataSet(buffer, result.elements, is_big_endian=is_big_endian)
                raise BrokenHeaderError(error, dataset) from None
            else:
                return result, buffer
            if wanted >= self.limits.header_bytes:
                raise InputError(
                    f"Expected a header of at most {self.limits.header_bytes} bytes (got a longer one).",
                    code="dicom.malformed",
                )
            wanted = min(wanted * 8, size, self.limits.header_bytes)
            buffer = read_at(self.descriptor, wanted, 0)

    def after_pixels(self, stop: int, is_explicit: bool, is_big_endian: bool) -> list[Note]:
        """Look at what follows native pixels: attributes are fine, others are noted, a cut one is refused."""
        if not stop < self.size:
            return []
        count = self.size - stop
        tail = read_at(self.descriptor, min(count, FIRST_BYTES), stop)
        surplus = Note("dicom.pixel_length", f"{count} bytes after the pixels were not used.")
        if count < 8 or tail[:2] not in _TRAILING_GROUPS:
            return [surplus]
        try:
            walk(tail, 0, count, Walk(), explicit=is_explicit, big_endian=is_big_endian, limits=self.limits)
        except NeedMoreBytesError:
            pass
        except InputError as error:
            if error.code == "dicom.truncated":
                raise
            return [surplus]
        return []

    def _meta(self, head: bytes) -> tuple[int, str, str]:
        """Return start of the data set, transfer syntax and media storage class from group 0002."""
        stop, length, found = 132, 0, {}
        while head[stop : stop + 2] == b"\x02\x00":
            at = stop
            if head[stop + 4 : stop + 6] in LONG_VRS:
                length, value = int.from_bytes(head[stop + 8 : stop + 12], "little"), stop + 12
            else:
                length, value = int.from_bytes(head[stop + 6 : stop + 8], "little"), stop + 8
            stop = value + length
            if stop > self.size:
                if length > _META_LIMIT:
                    raise _malformed_meta("claims more bytes than the file has")
                raise _truncated()
            if stop > len(head):
                if stop > _META_LIMIT:
                    raise _malformed_meta("is larger than a mebibyte")
                head = read_at(self.descriptor, min(self.size, _META_LIMIT + 12), 0)
            found[head[at + 2 : at + 4]] = head[value:stop].strip(b" \0").decode("ascii", "replace")
        if stop == 132:
            if self.size < 140:
                raise InputError("Expected a data set after the preamble (got none).", code="dicom.empty")
            return 132, _guess_encoding(head, 132), ""
        syntax = found.get(b"\x10\0", "")
        if not syntax:
            raise InputError(
                "Expected (0002,0010) Transfer Syntax UID in the file meta information (got none).",
                code="dicom.no_meta",
                remedy="Export the file again.",
            )
        return stop, syntax, found.get(b"\x02\0", "")

    def _without_preamble(self, head: bytes) -> tuple[int, str, str]:
        """A data set that starts at byte 0: only believed when its first attributes make sense."""
        if not head:
            raise NotDicomError("empty file")
        if self.size < 132:
            raise NotDicomError("too short for DICOM")
        if head[:4] == b"\x02\x00\x00\x00":  # meta group without the preamble
            shifted = b"\0" * 128 + b"DICM" + head
            start, syntax, media_class = Header(self.descriptor, self.size + 132, 0, self.limits, shifted)._meta(
                shifted
            )
            return start - 132, syntax, media_class
        syntax = _guess_encoding(head, 0)
        if not syntax or not _looks_like_dicom(head):
            raise NotDicomError(kind_of(head))
        return 0, syntax, ""

    def _inflate(self, start: int) -> bytes:
        cap = self.limits.inflated_bytes
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        pieces: list[bytes] = []
        total, position = 0, start
        while not inflater.eof:
            raw = read_at(self.descriptor, 2**20, position)
            if not raw:
                raise _truncated()
            position += len(raw)
            try:
                pieces.append(inflater.decompress(raw, cap - total + 1))
            except zlib.error:
                raise InputError(
                    "Expected a deflated data set (got bytes that do not inflate).", code="dicom.malformed"
                ) from None
            total += len(pieces[-1])
            if total > cap:
                raise InputError(
                    f"Expected a deflated data set of at most {cap} bytes (got more).",
                    code="limit.inflate",
                    remedy="Raise the limit if the file is trusted.",
                )
        return b"".join(pieces)


def _guess_encoding(head: bytes, start: int) -> str:
    """Explicit or implicit VR little endian, big endian explicit, from the look of the first attribute; '' for none."""
    vr = head[start + 4 : start + 6]
    if vr.isalpha() and vr.isupper():
        return syntaxes.BIG_ENDIAN if head[start] == 0 and head[start + 1] else syntaxes.EXPLICIT
    return syntaxes.IMPLICIT if len(head) >= start + 8 else ""


def _looks_like_dicom(head: bytes) -> bool:
    """Group 0008 (or 0004-0010) first, with a length that fits into the file."""
    group = int.from_bytes(head[:2], "little")
    if group not in (0x0008, 0x0010):
        group = int.from_bytes(head[:2], "big")
        return group in (0x0008, 0x0010) and head[4:6].isalpha() and head[4:6].isupper()
    if head[4:6].isalpha() and head[4:6].isupper():
        return True
    return int.from_bytes(head[4:8], "little") < 2**16


def _truncated() -> InputError:
    return InputError(
        "Expected the data set to be complete (got a file that ends inside it).",
        code="dicom.truncated",
        remedy="Copy or export the file again.",
    )


def _malformed_meta(what: str) -> InputError:
    return InputError(
        f"Expected well-formed file meta information (got an attribute that {what}).", code="dicom.malformed"
    )
