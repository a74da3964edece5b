"""Bad and unusual pixels, BAD_INPUTS.md section B: each row builds its input and says what must come of it."""

import struct
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_builders import make_slice, slice_pixels, write, write_series
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medmm.dicom import discover
from medmm.dicom.fill import Scratch, fill_from_file
from medmm.dicom.limits import Limits
from medmm.dicom.volume import read_volume
from medmm.errors import InputError

CT = "1.2.840.10008.5.1.4.1.1.2"


def refusal(path: Path, limits: Limits | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(path, limits=limits or Limits())
    return caught.value


def stored_view(volume_voxels: np.ndarray) -> np.ndarray:
    """The first slice of an axial volume as its file had it, (rows, columns)."""
    return volume_voxels[0, ::-1, ::-1, 0].T


def compressed(path: Path, syntax: str, frames: list[bytes], number: int = 0, **tags: Any) -> Path:
    dataset = make_slice(number, **tags)
    dataset.PixelData = encapsulate(frames)
    return write(dataset, path, syntax)


@pytest.mark.bad_input("B1")
@pytest.mark.parametrize("claim", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2**31 - 1}])
def test_an_image_that_claims_billions_of_pixels_is_refused_before_allocation(tmp_path: Path, claim: dict) -> None:
    path = write(make_slice(**claim), tmp_path / "a.dcm")

    error = refusal(path, Limits(memory_bytes=2**30))

    assert error.code == "limit.pixels"


@pytest.mark.bad_input("B1")
def test_a_series_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, 5)

    assert refusal(tmp_path, Limits(voxels=6 * 8 * 5 - 1)).code == "limit.pixels"


@pytest.mark.bad_input("B2")
def test_fewer_bytes_than_the_image_needs_are_refused(tmp_path: Path) -> None:
    path = write(make_slice(PixelData=slice_pixels(0).tobytes()[:-10]), tmp_path / "a.dcm")

    assert refusal(path).code == "dicom.pixel_length"


@pytest.mark.bad_input("B3")
@pytest.mark.parametrize("kind", ["inside", "after"])
def test_surplus_bytes_are_noted_and_change_nothing(tmp_path: Path, kind: str) -> None:
    raw = slice_pixels(0).tobytes()
    path = write(make_slice(PixelData=raw + bytes(range(96)) if kind == "inside" else raw), tmp_path / "a.dcm")
    if kind == "after":
        path.write_bytes(path.read_bytes() + b"\0" * 50)

    volume = read_volume(path)

    assert "dicom.pixel_length" in {note.code for note in volume.notes}
    np.testing.assert_array_equal(stored_view(volume.voxels), slice_pixels(0).astype(np.float32) - 1024)


@pytest.mark.bad_input("B4")
@pytest.mark.parametrize(
    "tags",
    [
        {"NumberOfFrames": -1},
        {"NumberOfFrames": 0},
        {"Rows": 0},
        {"BitsAllocated": 12},
        {"BitsStored": 17},
        {"HighBit": 20},
        {"SamplesPerPixel": 2},
        {"PixelRepresentation": 3},
        {"PhotometricInterpretation": "NONSENSE"},
    ],
)
def test_impossible_pixel_attributes_are_refused(tmp_path: Path, tags: dict) -> None:
    path = write(make_slice(**tags), tmp_path / "a.dcm")

    assert refusal(path).code == "dicom.bad_value"


@pytest.mark.bad_input("B4")
def test_a_frame_count_that_is_text_is_refused(tmp_path: Path) -> None:
    path = write(make_slice(NumberOfFrames=123), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"IS\x04\x00123 ", b"IS\x04\x00many"))

    assert refusal(path).code == "dicom.bad_value"


def rle_header(segments: int, *offsets: int) -> bytes:
    return struct.pack("<16L", segments, *offsets, *([0] * (15 - len(offsets))))


@pytest.mark.bad_input("B5")
@pytest.mark.parametrize(
    "frame",
    [
        rle_header(0),
        rle_header(2, 64, 100_000) + b"\0" * 64,
        rle_header(15, 64) + b"\0" * 64,
        b"\1\2\3\4",
        b"\xff" * 500,
    ],
)
def test_broken_rle_is_refused_and_the_next_series_is_read(tmp_path: Path, frame: bytes) -> None:
    compressed(tmp_path / "bad" / "a.dcm", RLELossless, [frame])
    write_series(tmp_path / "good", 3)

    assert refusal(tmp_path / "bad").code == "decode.failed"
    assert read_volume(tmp_path / "good").shape == (8, 6, 3)


@pytest.mark.bad_input("B5")
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("seed", range(3))
def test_junk_in_place_of_a_code_stream_is_refused(tmp_path: Path, syntax: str, seed: int) -> None:
    noise = np.random.default_rng(seed).bytes(600)
    start = b"\xff\x4f\xff\x51" if syntax == JPEG2000Lossless else b"\xff\xd8\xff\xc3"

    error = refusal(compressed(tmp_path / "a.dcm", syntax, [start + noise]))

    assert error.code == "decode.failed"


@pytest.mark.bad_input("B5")
def test_a_code_stream_larger_than_its_header_is_refused_before_decoding(tmp_path: Path) -> None:
    size = struct.pack(">HHLLLLLLLLH", 41, 0, 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0, 1)
    stream = b"\xff\x4f\xff\x51" + size + b"\x0f\1\1" + b"\0" * 100

    error = refusal(compressed(tmp_path / "a.dcm", JPEG2000Lossless, [stream]))

    assert error.code == "decode.failed"


@pytest.mark.bad_input("B6")
@pytest.mark.parametrize(
    ("syntax", "word"),
    [("1.2.840.10008.1.2.4.102", "MPEG-4"), ("1.2.840.10008.1.2.4.110", "JPEG XL"), ("1.2.3.4.5", "unknown")],
)
def test_a_transfer_syntax_without_decoder_is_refused_by_name(tmp_path: Path, syntax: str, word: str) -> None:
    path = compressed(tmp_path / "a.dcm", JPEG2000Lossless, [b"\0" * 64])
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    old = b"UI\x16\x00" + str(JPEG2000Lossless).encode()
    path.write_bytes(path.read_bytes().replace(old, b"UI" + len(value).to_bytes(2, "little") + value))

    error = refusal(path)

    assert error.code == "decode.unsupported"
    assert word in str(error)


@pytest.mark.bad_input("B7")
def test_lossy_pixels_are_noted_with_method_and_ratio(tmp_path: Path) -> None:
    lossy = {"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_15444_1"}
    path = write(make_slice(**lossy, LossyImageCompressionRatio="12.5"), tmp_path / "a.dcm")

    notes = [note.message for note in read_volume(path).notes if note.code == "image.lossy"]

    assert len(notes) == 1
    assert "ISO_15444_1" in notes[0]
    assert "12.5" in notes[0]


def jpeg_ls(pixels: np.ndarray) -> bytes:
    import jpeg_ls as codec

    return bytes(codec.encode(pixels))


def multi_frame(path: Path, data: bytes, frames: int) -> Path:
    dataset = make_slice(NumberOfFrames=frames, ImagePositionPatient=None, ImageOrientationPatient=None)
    dataset.PixelData = data
    return write(dataset, path, JPEGLSLossless)


def item(data: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + (len(data) + len(data) % 2).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


END = b"\xfe\xff\xdd\xe0\0\0\0\0"


@pytest.mark.bad_input("B8")
@pytest.mark.parametrize("table", ["empty", "right", "wrong"])
def test_fragmented_frames_come_out_in_order_whatever_the_offset_table_says(tmp_path: Path, table: str) -> None:
    streams = [jpeg_ls(slice_pixels(n)) for n in range(3)]
    halves = [(stream[: len(stream) // 2 // 2 * 2], stream[len(stream) // 2 // 2 * 2 :]) for stream in streams]
    sizes = [len(item(one)) + len(item(two)) for one, two in halves]
    offsets = struct.pack("<3L", 0, sizes[0], sizes[0] + sizes[1])
    tables = {"empty": b"", "right": offsets, "wrong": struct.pack("<3L", 0, 7, 13)}
    data = item(tables[table]) + b"".join(item(one) + item(two) for one, two in halves) + END
    path = multi_frame(tmp_path / "a.dcm", data, 3)

    series = discover(path).studies[0].series

    assert len(series) == 3
    for number, one in enumerate(series):
        expected = slice_pixels(number).astype(np.float32) - 1024
        np.testing.assert_array_equal(stored_view(read_volume(one).voxels), expected)


@pytest.mark.bad_input("B8")
def test_fewer_fragments_than_frames_are_refused(tmp_path: Path) -> None:
    data = item(b"") + item(jpeg_ls(slice_pixels(0))) + END

    assert refusal(multi_frame(tmp_path / "a.dcm", data, 3)).code == "decode.failed"


@pytest.mark.parametrize("kind", ["plain", "rle"])
def test_frames_of_a_large_object_are_held_one_at_a_time(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (60, 128, 128)).astype(np.uint16)
    dataset = make_slice(modality="MR", pixels=pixels[0], NumberOfFrames=60)
    dataset.PixelData = pixels.tobytes()
    if kind == "rle":
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset["PixelData"].VR = "OW"
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    path = write(dataset, tmp_path / "a.dcm", RLELossless if kind == "rle" else ExplicitVRLittleEndian)
    series = discover(path, workers=0).studies[0].series[0]
    instance = series.slices[0].instance
    out, frame_bytes = np.empty((60, 128, 128), np.float32), 128 * 128 * 2

    tracemalloc.start()
    fill_from_file(instance, list(zip(instance.frames, out, strict=True)), Limits(), Scratch())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    np.testing.assert_array_equal(out, pixels)
    assert peak < 10 * frame_bytes


@pytest.mark.bad_input("B9")
def test_signed_values_and_unused_high_bits_read_as_a_second_decoder_reads_them(tmp_path: Path) -> None:
    values = np.array([[-2048, -1, 0], [1, 2047, 55]], np.int16)
    overlay = (values & 0x0FFF) | np.array([[0x1000, 0, 0x4000], [0, 0x2000, 0x1000]], np.int16)
    path = write(make_slice(pixels=overlay.astype(np.int16), BitsStored=12, HighBit=11), tmp_path / "a.dcm")

    volume = read_volume(path)

    np.testing.assert_array_equal(stored_view(volume.voxels), values.astype(np.float32) - 1024)


@pytest.mark.bad_input("B9")
def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    write_series(
        tmp_path, 3, modality="MR", RescaleSlope=lambda n: str(0.25 * (n + 1)), RescaleIntercept=lambda n: str(-3.5 * n)
    )

    volume = read_volume(tmp_path)

    for number in range(3):
        dataset = pydicom.dcmread(tmp_path / f"IM{number:04d}.dcm")
        expected = apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_allclose(volume.voxels[0, ::-1, ::-1, number].T, expected, rtol=1e-6)


@pytest.mark.bad_input("B9")
@pytest.mark.parametrize("slope", ["1e-7", "0.000183111", "-2"])
def test_tiny_and_negative_slopes_keep_their_precision(tmp_path: Path, slope: str) -> None:
    path = write(make_slice(modality="MR", RescaleSlope=slope, RescaleIntercept="0"), tmp_path / "a.dcm")

    volume = read_volume(path)

    np.testing.assert_allclose(stored_view(volume.voxels), slice_pixels(0) * float(slope), rtol=1e-6)


@pytest.mark.bad_input("B9")
@pytest.mark.parametrize("intercept", ["-1024", "-1024.5", "32767", "-40000", "0"])
@pytest.mark.parametrize("first", [np.int16(-32768), np.int16(32720), np.uint16(0), np.uint16(32750), np.uint16(65480)])
def test_an_intercept_is_added_at_the_ends_of_the_stored_range(
    tmp_path: Path, intercept: str, first: np.integer[Any]
) -> None:
    stored = first + np.arange(48, dtype=first.dtype).reshape(6, 8)
    path = write(make_slice(pixels=stored, RescaleIntercept=intercept), tmp_path / "a.dcm")

    volume = read_volume(path, workers=0)

    expected = stored.astype(np.float64) + float(intercept)
    np.testing.assert_array_equal(stored_view(volume.voxels), expected.astype(np.float32))


@pytest.mark.bad_input("B9")
def test_padding_values_are_kept_as_they_are(tmp_path: Path) -> None:
    stored = slice_pixels(0).astype(np.int16)
    stored[0, 0] = -2000
    path = write(make_slice(pixels=stored, PixelPaddingValue=-2000, RescaleIntercept="0"), tmp_path / "a.dcm")

    assert read_volume(path).voxels.min() == -2000


@pytest.mark.bad_input("B9")
def test_monochrome1_keeps_hounsfield_units_and_mirrors_what_has_none(tmp_path: Path) -> None:
    ct = write(make_slice(PhotometricInterpretation="MONOCHROME1"), tmp_path / "ct.dcm")
    stored = slice_pixels(0).astype(np.uint8)
    picture = make_slice(
        pixels=stored, modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", PhotometricInterpretation="MONOCHROME1"
    )
    capture = write(picture, tmp_path / "sc.dcm")

    hounsfield, mirrored = read_volume(ct), read_volume(capture)

    np.testing.assert_array_equal(stored_view(hounsfield.voxels), slice_pixels(0).astype(np.float32) - 1024)
    assert hounsfield.unit == "HU"
    np.testing.assert_array_equal(stored_view(mirrored.voxels), 255 - stored.astype(np.float32))
    assert mirrored.unit == "a.u."


@pytest.mark.bad_input("B9")
@pytest.mark.parametrize("is_signed", [False, True])
def test_a_modality_lut_is_applied_as_a_second_decoder_applies_it(tmp_path: Path, is_signed: bool) -> None:
    stored = slice_pixels(0).astype(np.int16 if is_signed else np.uint16) - (20 if is_signed else 0)
    dataset = make_slice(pixels=stored, RescaleSlope=None, RescaleIntercept=None)
    table = pydicom.Dataset()
    first = -10 if is_signed else 5
    table.add_new(0x00283002, "SS" if is_signed else "US", [40, first, 16])
    table.ModalityLUTType = "US"
    table.add_new(0x00283006, "US", [n * n for n in range(40)])
    dataset.ModalityLUTSequence = Sequence([table])
    path = write(dataset, tmp_path / "a.dcm")

    volume = read_volume(path)

    reread = pydicom.dcmread(path)
    np.testing.assert_array_equal(stored_view(volume.voxels), apply_modality_lut(reread.pixel_array, reread))


@pytest.mark.bad_input("B9")
def test_thirty_two_bit_and_float_pixels_are_read(tmp_path: Path) -> None:
    wide = slice_pixels(0).astype(np.uint32) * 70_000
    path = write(make_slice(pixels=wide, RescaleIntercept="-7"), tmp_path / "a" / "a.dcm")
    floats = (slice_pixels(1) / 7).astype(np.float32)
    dataset = make_slice(1, modality="MR", PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None)
    dataset.FloatPixelData = floats.tobytes()
    other = write(dataset, tmp_path / "b" / "b.dcm")

    np.testing.assert_allclose(stored_view(read_volume(path).voxels), wide.astype(np.float64) - 7, rtol=1e-7)
    np.testing.assert_array_equal(stored_view(read_volume(other).voxels), floats)


@pytest.mark.bad_input("B10")
@pytest.mark.parametrize("slope", [b"0 ", b"nan ", b"inf ", b"abc "])
def test_an_impossible_rescale_slope_is_refused(tmp_path: Path, slope: bytes) -> None:
    path = write(make_slice(RescaleSlope="5.5"), tmp_path / "a.dcm")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"DS\x04\x005.5 ", b"DS" + len(slope).to_bytes(2, "little") + slope))

    error = refusal(path)

    assert error.code == "dicom.bad_value"
    assert "(0028,1053)" in str(error)


@pytest.mark.bad_input("B11")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_are_refused(tmp_path: Path, value: float) -> None:
    floats = slice_pixels(0).astype(np.float32)
    floats[2, 3] = value
    dataset = make_slice(modality="MR", PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None)
    dataset.FloatPixelData = floats.tobytes()
    path = write(dataset, tmp_path / "a.dcm")

    assert refusal(path).code == "image.nonfinite"


@pytest.mark.bad_input("B11")
def test_values_beyond_float32_are_refused(tmp_path: Path) -> None:
    path = write(make_slice(modality="MR", RescaleSlope="1e300", RescaleIntercept="0"), tmp_path / "a.dcm")

    assert refusal(path).code == "image.nonfinite"


@pytest.mark.bad_input("B12")
def test_a_constant_volume_is_noted(tmp_path: Path) -> None:
    for number in range(3):
        write(make_slice(number, pixels=np.zeros((6, 8), np.uint16)), tmp_path / f"{number}")

    volume = read_volume(tmp_path)

    assert "image.constant" in {note.code for note in volume.notes}
    assert np.isfinite(volume.voxels).all()


@pytest.mark.bad_input("B12")
def test_a_volume_of_equal_slices_is_noted(tmp_path: Path) -> None:
    write_series(tmp_path, 4, pixels=slice_pixels(0))
    different = tmp_path / "different"
    write_series(different, 4, SeriesInstanceUID="1.2.3")

    notes = [read_volume(series).notes for series in discover(tmp_path).studies[0].series]

    assert sorted([note.message for note in of_one] for of_one in notes) == [[], ["Every slice shows the same."]]


@pytest.mark.bad_input("B13")
def test_a_colour_image_is_refused_and_a_grey_one_in_three_channels_is_read(tmp_path: Path) -> None:
    grey = np.repeat(slice_pixels(0).astype(np.uint8)[..., None], 3, axis=2)
    colour = grey.copy()
    colour[1, 1, 0] += 9
    capture = {"modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    good = write(make_slice(pixels=grey, **capture), tmp_path / "good" / "a.dcm")
    bad = write(make_slice(pixels=colour, **capture), tmp_path / "bad" / "a.dcm")

    assert refusal(bad).code == "image.color"
    np.testing.assert_array_equal(stored_view(read_volume(good).voxels), slice_pixels(0))


@pytest.mark.bad_input("B13")
def test_planar_grey_in_three_channels_is_read(tmp_path: Path) -> None:
    grey = np.repeat(slice_pixels(0).astype(np.uint8)[..., None], 3, axis=2)
    dataset = make_slice(pixels=grey, modality="MR", PlanarConfiguration=1)
    dataset.PixelData = grey.transpose(2, 0, 1).tobytes()

    volume = read_volume(write(dataset, tmp_path / "a.dcm"))

    np.testing.assert_array_equal(stored_view(volume.voxels), slice_pixels(0))


@pytest.mark.bad_input("B13")
def test_a_palette_image_is_refused(tmp_path: Path) -> None:
    path = write(make_slice(PhotometricInterpretation="PALETTE COLOR"), tmp_path / "a.dcm")

    assert refusal(path).code == "image.color"


@pytest.mark.bad_input("B14")
def test_pixels_in_a_private_attribute_only_are_refused(tmp_path: Path) -> None:
    dataset = make_slice(PixelData=None)
    dataset.private_block(0x7FE1, "VENDOR PIXELS", create=True).add_new(0x10, "OB", b"\1\2" * 200)
    path = write(dataset, tmp_path / "a.dcm")

    assert refusal(path).code in {"decode.unsupported", "dicom.no_pixels"}


# Every codec, against the plain copy.
def encoded(kind: str, pixels: np.ndarray) -> tuple[str, bytes]:
    if kind == "plain":
        return "1.2.840.10008.1.2.1.98", pixels.tobytes()
    imagecodecs = pytest.importorskip("imagecodecs")
    from openjpeg.utils import encode_array

    if kind == "jpeg-ls":
        return JPEGLSLossless, jpeg_ls(pixels)
    if kind == "jpeg-lossless":
        return JPEGLosslessSV1, imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=pixels.dtype.itemsize * 8)
    if kind == "htj2k":
        return HTJ2KLossless, imagecodecs.htj2k_encode(pixels)
    if kind == "jpeg2000":
        return JPEG2000Lossless, bytes(encode_array(pixels))
    dataset = make_slice(pixels=pixels)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.compress(RLELossless, generate_instance_uid=False)
    return RLELossless, pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)


@pytest.mark.bad_input("A12")
@pytest.mark.parametrize("kind", ["plain", "rle", "jpeg-ls", "jpeg-lossless", "jpeg2000", "htj2k"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_lossless_codecs_give_the_pixels_of_the_plain_copy(tmp_path: Path, kind: str, dtype: type) -> None:
    if dtype is np.int16 and kind in {"jpeg-ls", "jpeg-lossless"}:
        pixels = (slice_pixels(1, 64, 72).astype(np.int32) - 300).astype(np.int16)
        syntax, frame = encoded(kind, pixels.view(np.uint16))  # the streams hold bare bits; the header says signed
    else:
        pixels = slice_pixels(0, 64, 72).astype(dtype)
        syntax, frame = encoded(kind, pixels)

    path = compressed(tmp_path / "a.dcm", syntax, [frame], pixels=pixels)

    np.testing.assert_array_equal(stored_view(read_volume(path).voxels), pixels.astype(np.float32) - 1024)
