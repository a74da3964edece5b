"""From the bytes of a frame to float32 values: byte order, stored bits, modality transformation, photometric sense."""

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.types import Frame, Instance, PixelFormat
from medmm.errors import InputError

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def stored_dtype(pixels: PixelFormat) -> np.dtype:
    """The numpy type of native pixels."""
    if pixels.word != "pixel":
        kind = f"f{pixels.bits_allocated // 8}"
    else:
        kind = f"{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}"
    return np.dtype((">" if pixels.is_big_endian else "<") + kind)


def native_frame(raw: bytes | memoryview, pixels: PixelFormat) -> np.ndarray:
    """Return one frame (rows, columns) or (rows, columns, 3) of uncompressed pixels, as stored."""
    flat = np.frombuffer(raw, dtype=stored_dtype(pixels), count=pixels.rows * pixels.columns * pixels.samples)
    if pixels.samples == 1:
        return flat.reshape(pixels.rows, pixels.columns)
    if pixels.is_planar:
        return flat.reshape(pixels.samples, pixels.rows, pixels.columns).transpose(1, 2, 0)
    return flat.reshape(pixels.rows, pixels.columns, pixels.samples)


def write_frame(stored: np.ndarray, instance: Instance, frame: Frame, out: np.ndarray) -> tuple[float, float]:
    """Write the physical values of a frame into `out` (rows, columns), float32, any strides; returns their range.

    Args:
        stored: (rows, columns) or (rows, columns, 3) as decoded; integers keep their unused high bits. Where it may be
            written to, it is scratch memory and left changed.
        instance: Where the frame comes from.
        frame: Which slice of it, with slope and intercept.
        out: Filled in place.
    Raises:
        InputError: image.color, image.nonfinite.

    MONOCHROME1 means that low values are shown bright. Where values have a physical meaning (CT numbers), they are
    kept; elsewhere they are mirrored, so that bright is bright in every volume.
    """
    pixels = instance.pixels
    if frame.tile is not None:
        top, left, rows, columns = frame.tile
        stored = stored[top : top + rows, left : left + columns]
    if stored.ndim == 3:
        stored = _grey(stored)
    low, high = stored.min(), stored.max()
    if pixels.word == "pixel" and not _has_used_bits_only(pixels, int(low), int(high)):
        stored = _used_bits(stored, pixels)
        low, high = stored.min(), stored.max()
    if pixels.photometric == "MONOCHROME1" and not has_physical_values(instance):
        stored = _mirrored(stored, pixels)
        low, high = stored.min(), stored.max()
    if instance.modality_lut is not None:
        first, table = instance.modality_lut
        index = np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)
        out[...] = np.asarray(table, dtype=np.float32)[index]
        return float(out.min()), float(out.max())
    # The range is taken from the stored values, which is several times faster than from float32.
    ends = (float(low) * frame.slope + frame.intercept, float(high) * frame.slope + frame.intercept)
    if not all(abs(end) <= _FLOAT32_MAX for end in ends):  # NaN included
        raise InputError(
            "Expected finite voxels (got NaN, infinity, or values beyond float32).",
            code="image.nonfinite",
            remedy="Export the series again.",
        )
    _rescale(stored, frame, (float(low), float(high)), out)
    return min(ends), max(ends)


def _rescale(stored: np.ndarray, frame: Frame, ends: tuple[float, float], out: np.ndarray) -> None:
    """Write stored values, which lie between `ends`, with slope and intercept into `out`."""
    slope, intercept = frame.slope, frame.intercept
    if stored.dtype.itemsize > 2 and (slope != 1 or intercept != 0):
        out[...] = stored.astype(np.float64) * slope + intercept
        return
    if slope == 1 and intercept != 0 and _is_whole(stored, intercept, ends):
        # CT: added to the two bytes that a pixel has here, which is faster than to the four it takes in the volume.
        whole = stored.view(stored.dtype.str.replace("u", "i"))
        out[...] = np.add(whole, np.int16(intercept), out=whole if whole.flags.writeable else None)
        return
    out[...] = stored
    if slope != 1:
        out *= np.float32(slope)
    if intercept != 0:
        out += np.float32(intercept)


def _is_whole(stored: np.ndarray, intercept: float, ends: tuple[float, float]) -> bool:
    """Whether the intercept is whole and, like 16-bit values before and after it, fits a signed 16-bit number."""
    low, high = min(ends[0], ends[0] + intercept, intercept), max(ends[1], ends[1] + intercept, intercept)
    return stored.dtype.itemsize == 2 and intercept.is_integer() and low >= -(2**15) and high < 2**15


def has_physical_values(instance: Instance) -> bool:
    """Whether the values of an image are CT numbers."""
    header = instance.header
    is_ct = header.sop_class_uid not in syntaxes.CAPTURE_CLASSES and header.modality == "CT"
    return is_ct and (header.has_rescale or instance.modality_lut is not None) and header.rescale_type in ("", "HU")


def _has_used_bits_only(pixels: PixelFormat, low: int, high: int) -> bool:
    """Whether values between two ends have nothing but the bits that belong to them."""
    if pixels.high_bit + 1 != pixels.bits_stored:
        return False
    span = 1 << pixels.bits_stored
    return -span // 2 <= low and high < span // 2 if pixels.is_signed else high < span


def _used_bits(stored: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Drop bits that do not belong to the value (overlays live there in old files) and extend the sign."""
    if pixels.bits_stored == pixels.bits_allocated or stored.dtype.itemsize * 8 != pixels.bits_allocated:
        return stored
    low = pixels.high_bit + 1 - pixels.bits_stored
    if pixels.is_signed:
        left = pixels.bits_allocated - 1 - pixels.high_bit
        return (stored << left) >> (left + low)
    mask = stored.dtype.type((1 << pixels.bits_stored) - 1)
    return (stored >> low) & mask if low else stored & mask


def _mirrored(stored: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Stored values counted from the other end of their range."""
    if pixels.word != "pixel":
        return -stored
    if pixels.is_signed:
        return -1 - stored
    return ((1 << pixels.bits_stored) - 1) - stored.astype(np.int64)


def _grey(stored: np.ndarray) -> np.ndarray:
    """The one channel of a picture whose three are equal.

    Raises:
        InputError: image.color.
    """
    if not ((stored[..., 0] == stored[..., 1]).all() and (stored[..., 0] == stored[..., 2]).all()):
        raise InputError(
            "Expected one grey channel (got a colour image).",
            code="image.color",
            remedy="Leave this series out of the study.",
        )
    return stored[..., 0]
