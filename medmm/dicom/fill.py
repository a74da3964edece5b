"""Pixels of one file into their places in a volume."""

import math
import os
from collections.abc import Sequence

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.decode import decode_frames
from medmm.dicom.limits import Limits
from medmm.dicom.pixels import native_frame, write_frame
from medmm.dicom.source import open_regular, read_header
from medmm.dicom.types import Frame, Instance
from medmm.errors import InputError


def fill_from_file(
    instance: Instance, targets: Sequence[tuple[Frame, np.ndarray]], limits: Limits
) -> tuple[float, float]:
    """Write the slices of one file into their places, each (rows, columns) float32 of any strides.

    Returns:
        The lowest and the highest value written, taken while the slices are in the cache.

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
        low, high = np.inf, -np.inf
        for frame, out in targets:
            write_frame(frames[frame.index], instance, frame, out)
            low, high = min(low, float(out.min())), max(high, float(out.max()))
    finally:
        os.close(descriptor)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            "Expected finite voxels (got NaN or infinity).",
            code="image.nonfinite",
            remedy="Export the series again.",
        )
    return low, high


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
        raw = os.pread(descriptor, size, instance.pixel_offset + n * size)
        if len(raw) < size:
            raise InputError("Expected more pixels (the file ends before).", code="dicom.truncated")
        frames[n] = native_frame(raw, pixels)
    return frames
