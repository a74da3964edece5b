"""Fragments of compressed pixels: where each frame's bytes lie (DICOM PS3.5 A.4).

Every length is checked against the file. Frames are found by the extended or basic offset table where it is right,
else one fragment a frame, else by the markers that start a code stream; anything unclear is refused, because frames
in a wrong order look like a valid volume.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise

from medmm.dicom.disk import read_at
from medmm.errors import InputError

_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_END = struct.pack("<HH", 0xFFFE, 0xE0DD)
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")  # JPEG and JPEG-LS, JPEG 2000 code stream, JP2 file
_MAX_FRAGMENTS = 2**20


class Fragments:
    """The fragments of one file's pixels: (offset, length) in the file, and the basic offset table."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self.descriptor = descriptor
        items: list[tuple[int, int]] = []
        position = start
        while True:
            head = read_at(descriptor, 8, position)
            if len(head) < 8 or position + 8 > size:
                raise _truncated()
            length = int.from_bytes(head[4:], "little")
            if head[:4] == _END:
                break
            if head[:4] != _ITEM:
                raise _failed("a fragment that does not start with an item tag")
            if position + 8 + length > size:
                raise _truncated()
            items.append((position + 8, length))
            if len(items) > _MAX_FRAGMENTS:
                raise _failed("more than a million fragments")
            position += 8 + length
        if not items:
            raise _failed("no offset table")
        self.table = read_at(descriptor, items[0][1], items[0][0]) if items[0][1] else b""
        self.items = items[1:]
        if not self.items or not any(length for _, length in self.items):
            raise InputError("Expected compressed pixels (got none).", code="dicom.no_pixels")

    def frames(self, count: int, *, is_rle: bool) -> list[list[tuple[int, int]]]:
        """Return the fragments of each frame.

        Raises:
            InputError: decode.failed when they cannot be told apart.
        """
        if count == 1:
            return [self.items]
        if len(self.items) == count:
            return [[item] for item in self.items]
        if is_rle or len(self.items) < count:
            raise _failed(f"{len(self.items)} fragments for {count} frames")
        return self._by_table(count) or self._by_marker(count)

    def _by_table(self, count: int) -> list[list[tuple[int, int]]]:
        """Frames as the basic offset table says; nothing when it is empty or does not point at fragments."""
        if len(self.table) != 4 * count:
            return []
        origin = self.items[0][0] - 8
        starts = {offset - 8 - origin: n for n, (offset, _) in enumerate(self.items)}
        offsets = struct.unpack(f"<{count}L", self.table)
        if offsets[0] != 0 or list(offsets) != sorted(set(offsets)) or any(value not in starts for value in offsets):
            return []
        bounds = [*(starts[value] for value in offsets), len(self.items)]
        return [self.items[one:two] for one, two in pairwise(bounds)]

    def _by_marker(self, count: int) -> list[list[tuple[int, int]]]:
        found: list[list[tuple[int, int]]] = []
        for offset, length in self.items:
            if read_at(self.descriptor, 8, offset).startswith(_STARTS):
                found.append([])
            if not found:
                raise _failed("fragments that start in the middle of a frame")
            found[-1].append((offset, length))
        if len(found) != count:
            raise _failed(f"{len(found)} code streams for {count} frames")
        return found

    def read(self, pieces: Sequence[tuple[int, int]]) -> bytes:
        """The bytes of one frame, its fragments joined."""
        return b"".join(read_at(self.descriptor, length, offset) for offset, length in pieces)


def _truncated() -> InputError:
    return InputError(
        "Expected compressed pixels to be complete (the file ends inside them).",
        code="dicom.truncated",
        remedy="Copy or export the file again.",
    )


def _failed(what: str) -> InputError:
    return InputError(
        f"Expected compressed frames that can be told apart (got {what}).",
        code="decode.failed",
        remedy="Export the series again, uncompressed.",
    )
