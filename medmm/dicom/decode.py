"""Compressed frames to arrays, through decoders that come as plain wheels. Runs in a worker that may be killed.

What a code stream claims about its size is compared with the header before a native decoder sees it.
"""

import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.encapsulated import Fragments
from medmm.dicom.pixels import native_frame
from medmm.dicom.types import Instance, PixelFormat
from medmm.errors import InputError


def decode_frames(descriptor: int, instance: Instance, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the wanted frames of an encapsulated file with their number, each (rows, columns) or (rows, columns, 3).

    Raises:
        InputError: decode.failed, decode.unsupported, dicom.truncated, dicom.no_pixels.
    """
    pixels = instance.pixels
    codec = syntaxes.CODECS[pixels.transfer_syntax]
    fragments = Fragments(descriptor, instance.pixel_offset, instance.size)
    pieces = fragments.frames(pixels.frames, is_rle=pixels.transfer_syntax == syntaxes.RLE)
    decoder = _DECODERS[pixels.transfer_syntax]
    for n in wanted:
        raw = fragments.read(pieces[n])
        try:
            decoded = decoder(raw, pixels)
        except ImportError:
            raise InputError(
                f"Expected a decoder for {codec.name} (none is installed).",
                code="decode.unsupported",
                remedy=f"Install the package {codec.package}.",
            ) from None
        except (ValueError, RuntimeError, TypeError, IndexError, OSError, struct.error, EOFError) as error:
            raise InputError(
                f"Expected pixels compressed as {codec.name} (the decoder refused them: {type(error).__name__}).",
                code="decode.failed",
                remedy="Export the series again, uncompressed.",
            ) from error
        yield n, _shaped(decoded, pixels, codec.name)


def _shaped(decoded: np.ndarray, pixels: PixelFormat, name: str) -> np.ndarray:
    """Check the shape of a decoded frame and give it the sign that the header states."""
    wanted = (pixels.rows, pixels.columns) if pixels.samples == 1 else (pixels.rows, pixels.columns, pixels.samples)
    if decoded.shape != wanted:
        raise InputError(
            f"Expected a frame of {wanted} values compressed as {name} (got {decoded.shape}).", code="decode.failed"
        )
    if pixels.is_signed and decoded.dtype.kind == "u":
        width = decoded.dtype.itemsize * 8
        decoded = decoded.view(decoded.dtype.str.replace("u", "i"))
        if width > pixels.bits_stored:  # the stream holds bare bits: extend the sign from the highest stored one
            left = width - pixels.bits_stored
            decoded = (decoded << left) >> left
    return decoded


def _rle(raw: bytes, pixels: PixelFormat) -> np.ndarray:
    from rle.rle import decode_frame

    count = len(raw) >= 64 and int.from_bytes(raw[:4], "little")
    if count != pixels.samples * pixels.bits_allocated // 8:
        raise ValueError("wrong number of segments")
    flat = np.frombuffer(decode_frame(raw, pixels.rows * pixels.columns, pixels.bits_allocated, "<"), np.uint8)
    kind = np.dtype(f"<{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}")
    planes = flat.view(kind).reshape(pixels.samples, pixels.rows, pixels.columns)
    return planes[0] if pixels.samples == 1 else planes.transpose(1, 2, 0)


def _jpeg2000(raw: bytes, pixels: PixelFormat) -> np.ndarray:
    from io import BytesIO

    import _openjpeg  # the compiled module of pylibjpeg-openjpeg

    start = raw.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        raise ValueError("no code stream")
    width, height, left, top = struct.unpack_from(">4L", raw, start + 8)
    _check_size(height - top, width - left, pixels)
    stream = BytesIO(raw[start:])
    code, decoded = _openjpeg.decode(stream, 0, as_array=True)
    if code != 0:
        raise ValueError("refused")
    meta = _openjpeg.get_parameters(stream, 0)
    width_bytes = {1: 1, 2: 2}.get(-(-meta["precision"] // 8), 4)
    values = np.asarray(decoded).view(f"<{'i' if meta['is_signed'] else 'u'}{width_bytes}")
    channels = meta["samples_per_pixel"]
    return values.reshape((pixels.rows, pixels.columns) if channels == 1 else (pixels.rows, pixels.columns, channels))


def _jpeg_ls(raw: bytes, pixels: PixelFormat) -> np.ndarray:
    import jpeg_ls

    rows, columns, _ = _frame_header(raw)
    _check_size(rows, columns, pixels)
    return np.asarray(jpeg_ls.decode(np.frombuffer(raw, np.uint8)))


def _jpeg(raw: bytes, pixels: PixelFormat) -> np.ndarray:
    """Baseline, extended (12 bit) and lossless JPEG; libjpeg-turbo 3 reads all of them."""
    import imagecodecs

    rows, columns, _ = _frame_header(raw)
    _check_size(rows, columns, pixels)
    return np.asarray(imagecodecs.jpeg8_decode(raw))


def _frame_header(raw: bytes) -> tuple[int, int, int]:
    """Return rows, columns and precision from the frame header of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2)."""
    position = 2
    while position + 9 <= len(raw):
        if raw[position] != 0xFF:
            raise ValueError("no marker")
        marker = raw[position + 1]
        if marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
            precision, rows, columns = struct.unpack_from(">BHH", raw, position + 4)
            return rows, columns, precision
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(raw[position + 2 : position + 4], "big")
    raise ValueError("no frame header")


def _check_size(rows: int, columns: int, pixels: PixelFormat) -> None:
    if (rows, columns) != (pixels.rows, pixels.columns):
        raise ValueError("the code stream has another size than the header")


_JPEG = "1.2.840.10008.1.2.4."
_DECODERS: dict[str, Callable[[bytes, PixelFormat], np.ndarray]] = {
    syntaxes.RLE: _rle,
    syntaxes.ENCAPSULATED_UNCOMPRESSED: native_frame,
    **dict.fromkeys((_JPEG + part for part in ("50", "51", "57", "70")), _jpeg),
    _JPEG + "80": _jpeg_ls,
    _JPEG + "81": _jpeg_ls,
    **dict.fromkeys((_JPEG + part for part in ("90", "91", "201", "202", "203")), _jpeg2000),
}
