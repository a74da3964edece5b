"""Pixels of one file into their places in a volume."""

import os
import time
from collections.abc import Sequence

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.decode import decode_frames
from medmm.dicom.limits import Limits
from medmm.dicom.pixels import native_frame, write_frame
from medmm.dicom.source import open_regular, read_header
from medmm.dicom.types import Frame, Instance
from medmm.errors import InputError

_READ_ATTEMPTS = 3


def fill_from_file(
    instance: Instance, targets: Sequence[tuple[Frame, np.ndarray]], limits: Limits
) -> tuple[float, float]:
    """Write the slices of one file into their places, each (rows, columns) float32 of any strides.

    Returns:
        The lowest and the highest value written.

    Raises:
        InputError: io.unreadable, io.changed, dicom.truncated, decode.*, image.color, image.nonfinite.
    """
    descriptor = open_regular(instance.path)
    try:
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (instance.size, instance.mtime_ns):
            raise InputError(
                "Expected the file as it was when it was found (it has changed since).",
                code="io.changed",
                remedy="Run discovery again.",
            )
        wanted = sorted({frame.index for frame, _ in targets})
        frames = _stored_frames(descriptor, instance, wanted, limits)
        ranges = [write_frame(frames[frame.index], instance, frame, out) for frame, out in targets]
    finally:
        os.close(descriptor)
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _stored_frames(descriptor: int, instance: Instance, wanted: Sequence[int], limits: Limits) -> dict[int, np.ndarray]:
    pixels = instance.pixels
    if instance.pixel_length < 0:
        return decode_frames(descriptor, instance, wanted)
    size = pixels.rows * pixels.columns * pixels.samples * pixels.bits_allocated // 8
    if pixels.transfer_syntax == syntaxes.DEFLATED:
        inflated = read_header(instance.path, limits).inflated or b""
        data = memoryview(inflated)[instance.pixel_offset :]
        return {n: native_frame(data[n * size : (n + 1) * size], pixels) for n in wanted}
    frames = {}
    for n in wanted:
        raw = _read(descriptor, size, instance.pixel_offset + n * size)
        if len(raw) < size:
            raise InputError("Expected more pixels (the file ends before).", code="dicom.truncated")
        frames[n] = native_frame(raw, pixels)
    return frames


def _read(descriptor: int, size: int, offset: int) -> bytes:
    """Return bytes of a file; a disk that fails is asked a few times.

    Raises:
        InputError: io.read.
    """
    for attempt in range(_READ_ATTEMPTS):
        try:
            return os.pread(descriptor, size, offset)
        except OSError:
            time.sleep(0.1 * attempt)
    raise InputError("Expected the disk to give a file's pixels (it failed).", code="io.read", remedy="Check the disk.")
