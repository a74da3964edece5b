"""Pixels of one file into their places in a volume."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.decode import decode_frames
from medmm.dicom.disk import open_regular, read_into
from medmm.dicom.limits import Limits
from medmm.dicom.pixels import native_frame, write_frame
from medmm.dicom.source import read_header
from medmm.dicom.types import Frame, Instance
from medmm.errors import InputError


class Scratch:
    """Memory for one frame's bytes, used again for the next: fresh memory for each costs more than the reading."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    def take(self, size: int) -> memoryview:
        """Return `size` bytes; what was taken before is lost."""
        if len(self._memory) < size:
            self._memory = memoryview(bytearray(size))
        return self._memory[:size]


def fill_from_file(
    instance: Instance, targets: Sequence[tuple[Frame, np.ndarray]], limits: Limits, scratch: Scratch
) -> tuple[float, float]:
    """Write the slices of one file into their places, each (rows, columns) float32 of any strides; one by one.

    Returns:
        The lowest and the highest value written.

    Raises:
        InputError: io.unreadable, io.changed, dicom.truncated, decode.*, image.color, image.nonfinite.
    """
    descriptor = open_regular(instance.path)
    low, high = np.inf, -np.inf
    try:
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (instance.size, instance.mtime_ns):
            raise InputError(
                "Expected the file as it was when it was found (it has changed since).",
                code="io.changed",
                remedy="Run discovery again.",
            )
        places: dict[int, list[tuple[Frame, np.ndarray]]] = {}
        for frame, out in targets:
            places.setdefault(frame.index, []).append((frame, out))
        for n, stored in _stored_frames(descriptor, instance, sorted(places), limits, scratch):
            for frame, out in places[n]:
                ends = write_frame(stored, instance, frame, out)
                low, high = min(low, ends[0]), max(high, ends[1])
    finally:
        os.close(descriptor)
    return low, high


def _stored_frames(
    descriptor: int, instance: Instance, wanted: Sequence[int], limits: Limits, scratch: Scratch
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the wanted frames as stored, one at a time; each is gone when the next is asked for."""
    pixels = instance.pixels
    if instance.pixel_length < 0:
        yield from decode_frames(descriptor, instance, wanted)
        return
    size = pixels.rows * pixels.columns * pixels.samples * pixels.bits_allocated // 8
    if pixels.transfer_syntax == syntaxes.DEFLATED:
        inflated = read_header(instance.path, limits).inflated or b""
        data = memoryview(inflated)[instance.pixel_offset :]
        yield from ((n, native_frame(data[n * size : (n + 1) * size], pixels)) for n in wanted)
        return
    for n in wanted:
        raw = scratch.take(size)
        if read_into(descriptor, raw, instance.pixel_offset + n * size) < size:
            raise InputError("Expected more pixels (the file ends before).", code="dicom.truncated")
        yield n, native_frame(raw, pixels)
