"""The image pixel attributes, checked before anything is allocated on their word."""

from medmm.dicom import syntaxes, tags
from medmm.dicom.attributes import DataSet, bad_value
from medmm.dicom.limits import Limits
from medmm.dicom.recent import Recent
from medmm.dicom.source import OpenedFile
from medmm.dicom.types import PixelFormat
from medmm.errors import InputError
from medmm.types import Note

_recent = Recent[PixelFormat]()
_TAGS = (  # every attribute that `_read` takes
    tags.ROWS,
    tags.COLUMNS,
    tags.NUMBER_OF_FRAMES,
    tags.SAMPLES_PER_PIXEL,
    tags.PHOTOMETRIC,
    tags.BITS_ALLOCATED,
    tags.BITS_STORED,
    tags.HIGH_BIT,
    tags.PIXEL_REPRESENTATION,
    tags.PLANAR_CONFIGURATION,
)
_WORDS = {tags.PIXEL_DATA: "pixel", tags.FLOAT_PIXEL_DATA: "float", tags.DOUBLE_PIXEL_DATA: "double"}
_COLOR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422"})
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})


def read_pixel_format(opened: OpenedFile, limits: Limits) -> PixelFormat:
    """Return the encoding of an image's pixels.

    Raises:
        InputError: dicom.missing_tag, dicom.bad_value, image.color, limit.pixels, decode.unsupported.
    """
    encoding = (opened.transfer_syntax, opened.is_explicit, opened.is_big_endian, opened.walk.pixels_tag, limits)
    elements = opened.dataset.elements
    words = [(elements[tag].vr, opened.dataset.raw(tag)) if tag in elements else None for tag in _TAGS]
    return _recent.get((encoding, *words), lambda: _read(opened, limits))


def _read(opened: OpenedFile, limits: Limits) -> PixelFormat:
    dataset = opened.dataset
    word = _WORDS.get(opened.walk.pixels_tag, "pixel")
    rows, columns = dataset.whole(tags.ROWS), dataset.whole(tags.COLUMNS)
    frames = dataset.whole(tags.NUMBER_OF_FRAMES, 1)
    samples = dataset.whole(tags.SAMPLES_PER_PIXEL, 1)
    for tag, value in ((tags.ROWS, rows), (tags.COLUMNS, columns), (tags.NUMBER_OF_FRAMES, frames)):
        if value < 1:
            raise bad_value(tag, "at least 1", "less")
    if rows * columns * frames > limits.voxels:
        raise InputError(
            f"Expected at most {limits.voxels} pixels in a file (its header claims {rows} x {columns} x {frames}).",
            code="limit.pixels",
            remedy="Raise the limit if the file is trusted.",
        )
    if samples not in (1, 3):
        raise bad_value(tags.SAMPLES_PER_PIXEL, "1 or 3", "another number")
    photometric = _photometric(dataset, samples)
    allocated, stored, high, is_signed = _bits(dataset, word)
    syntax = opened.transfer_syntax
    if syntax not in syntaxes.NATIVE and syntax not in syntaxes.CODECS and not _is_native_private(syntax):
        raise _unsupported(syntax)
    return PixelFormat(
        transfer_syntax=syntax,
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        is_signed=is_signed,
        is_planar=samples == 3 and dataset.whole(tags.PLANAR_CONFIGURATION, 0) == 1,
        frames=frames,
        word=word,
        is_explicit=opened.is_explicit,
        is_big_endian=opened.is_big_endian or syntax == syntaxes.GE_PRIVATE_BIG_ENDIAN,
    )


def check_pixel_length(opened: OpenedFile, pixels: PixelFormat, length: int) -> list[Note]:
    """Compare the bytes that native pixels need with those present; returns a note for surplus ones.

    Raises:
        InputError: dicom.truncated, dicom.pixel_length, dicom.malformed.
    """
    is_native = pixels.transfer_syntax in syntaxes.NATIVE or _is_native_private(pixels.transfer_syntax)
    if is_native != (length >= 0):
        raise InputError(
            "Expected pixels encoded as (0002,0010) Transfer Syntax UID says (got the other kind).",
            code="dicom.malformed",
            remedy="Export the series again.",
        )
    if not is_native:
        return []
    start, size = _extent(opened)
    if start + length > size:
        raise InputError(
            f"Expected {length} bytes of pixels (got {max(size - start, 0)}).",
            code="dicom.truncated",
            remedy="Copy or export the file again.",
        )
    needed = (pixels.rows * pixels.columns * pixels.samples * pixels.frames * pixels.bits_allocated + 7) // 8
    if pixels.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        needed = needed * 2 // 3
    if length < needed:
        raise InputError(
            f"Expected {needed} bytes of pixels for the claimed size (got {length}).",
            code="dicom.pixel_length",
            remedy="Copy or export the file again.",
        )
    if length > needed + (needed & 1):
        return [Note("dicom.pixel_length", f"{length - needed} bytes after the pixels were not used.")]
    return []


def read_modality_lut(dataset: DataSet, pixels: PixelFormat) -> tuple[int, tuple[int, ...]] | None:
    """Return (first mapped value, table) of the Modality LUT Sequence, None when there is none.

    Raises:
        InputError: dicom.bad_value.

    Source: DICOM PS3.3 C.11.1.
    """
    item = dataset.first(tags.MODALITY_LUT_SEQUENCE)
    if item is None:
        return None
    descriptor = [int(value) for value in item.numbers(tags.LUT_DESCRIPTOR)]
    if len(descriptor) != 3:
        raise bad_value(tags.LUT_DESCRIPTOR, "three values", f"{len(descriptor)}")
    entries = descriptor[0] or 65536
    first = descriptor[1] - 65536 if pixels.is_signed and descriptor[1] > 32767 else descriptor[1]
    order = "big" if dataset.is_big_endian else "little"
    raw = item.raw(tags.LUT_DATA)
    if len(raw) >= 2 * entries:
        table = tuple(int.from_bytes(raw[2 * n : 2 * n + 2], order) for n in range(entries))  # type: ignore[arg-type]
    elif len(raw) >= entries and descriptor[2] <= 8:
        table = tuple(raw[:entries])
    else:
        raise bad_value(tags.LUT_DATA, f"{entries} entries", "fewer")
    return first, table


def _photometric(dataset: DataSet, samples: int) -> str:
    photometric = dataset.text(tags.PHOTOMETRIC).upper() or "MONOCHROME2"
    if (samples == 1 and photometric not in _GREY) or (samples == 3 and photometric not in _COLOR):
        if photometric == "PALETTE COLOR" or photometric in _COLOR | _GREY:
            raise _color(
                "a palette" if photometric == "PALETTE COLOR" else "channels that do not fit their description"
            )
        raise bad_value(tags.PHOTOMETRIC, "a photometric interpretation of the standard", "another word")
    return photometric


def _bits(dataset: DataSet, word: str) -> tuple[int, int, int, bool]:
    if word != "pixel":
        width = 32 if word == "float" else 64
        return width, width, width - 1, True
    allocated = dataset.whole(tags.BITS_ALLOCATED)
    stored = dataset.whole(tags.BITS_STORED, allocated)
    high = dataset.whole(tags.HIGH_BIT, stored - 1)
    representation = dataset.whole(tags.PIXEL_REPRESENTATION, 0)
    if allocated not in (8, 16, 32):
        raise bad_value(tags.BITS_ALLOCATED, "8, 16 or 32", str(allocated))
    if not 1 <= stored <= allocated:
        raise bad_value(tags.BITS_STORED, f"1 to {allocated}", str(stored))
    if not stored - 1 <= high < allocated:
        raise bad_value(tags.HIGH_BIT, f"{stored - 1} to {allocated - 1}", str(high))
    if representation not in (0, 1):
        raise bad_value(tags.PIXEL_REPRESENTATION, "0 or 1", str(representation))
    return allocated, stored, high, representation == 1


def _extent(opened: OpenedFile) -> tuple[int, int]:
    assert opened.walk.pixels is not None
    size = len(opened.inflated) if opened.inflated is not None else opened.size
    return opened.walk.pixels.start, size


def _is_native_private(syntax: str) -> bool:
    return syntax == syntaxes.GE_PRIVATE_BIG_ENDIAN


def _color(what: str) -> InputError:
    return InputError(
        f"Expected one grey channel (got {what}).", code="image.color", remedy="Leave this series out of the study."
    )


def _unsupported(syntax: str) -> InputError:
    name = syntaxes.UNSUPPORTED.get(syntax, "an unknown or private syntax")
    return InputError(
        f"Expected a transfer syntax that a decoder is installed for (got {name}).",
        code="decode.unsupported",
        remedy="Export the series uncompressed, or as JPEG 2000 or RLE.",
    )
