"""Bad files, BAD_INPUTS.md section A: each row builds its input and says what must come of it."""

import gzip
import io
import os
import socket
import tarfile
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_builders import element, insert_before_pixels, make_slice, slice_pixels, write, write_series
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from medmm.dicom import discover
from medmm.dicom.limits import Limits
from medmm.dicom.types import Skipped
from medmm.dicom.volume import read_volume
from medmm.errors import InputError


def only_skip(path: Path, limits: Limits | None = None) -> Skipped:
    """What discovery says of a file that must not be used."""
    found = discover(path, limits=limits or Limits())

    assert found.studies == ()
    assert len(found.skipped) == 1
    return found.skipped[0]


def refusal(path: Path, limits: Limits | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(path, limits=limits or Limits())
    return caught.value


@pytest.mark.bad_input("A1")
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"short", "too short"),
        (b"DICM" * 20, "too short"),
        (b"A plain text that goes on for a while.\n" * 20, "text"),
        (b"<html><body>" + b"hello " * 100, "HTML"),
        (gzip.compress(os.urandom(4000)), "gzip"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 500, "JPEG"),
        (b"\0" * 4096, "zero bytes"),
    ],
)
def test_a_file_that_is_not_dicom_is_skipped_whatever_its_name(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "image.dcm").write_bytes(content)

    skip = only_skip(tmp_path)

    assert skip.code == ""
    assert word in skip.reason


@pytest.mark.bad_input("A1")
def test_nifti_and_png_named_dcm_are_skipped(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.dcm")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.dcm")

    found = discover(tmp_path)

    assert [skip.code for skip in found.skipped] == ["", ""]
    assert found.studies == ()


@pytest.mark.bad_input("A2")
def test_a_series_without_extensions_is_found_by_content(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        path.rename(path.with_suffix(""))

    volume = read_volume(tmp_path)

    assert volume.shape == (8, 6, 5)


@pytest.mark.bad_input("A3")
def test_a_file_without_preamble_reads_the_same_every_time_with_a_note(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    raw = path.read_bytes()
    (tmp_path / "bare").write_bytes(raw[raw.index(b"\x08\x00\x08\x00CS") :])
    path.unlink()

    volumes = [read_volume(tmp_path / "bare") for _ in range(2)]

    assert all("dicom.no_meta" in {note.code for note in volume.notes} for volume in volumes)
    np.testing.assert_array_equal(volumes[0].voxels, volumes[1].voxels)
    np.testing.assert_array_equal(volumes[0].voxels[0, ::-1, ::-1, 0].T, slice_pixels(0).astype(np.float32) - 1024)


@pytest.mark.bad_input("A3")
def test_file_meta_without_a_transfer_syntax_is_refused(tmp_path: Path) -> None:
    meta = element(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + meta + element(0x00080060, b"CS", b"CT"))

    assert only_skip(tmp_path / "a.dcm").code == "dicom.no_meta"


@pytest.mark.bad_input("A4")
def test_a_file_cut_at_any_byte_never_gives_a_volume(tmp_path: Path) -> None:
    whole = write(make_slice(), tmp_path / "whole.dcm").read_bytes()
    cut_folder = tmp_path / "cut"
    cut_folder.mkdir()
    for size in range(132, len(whole)):
        (cut_folder / f"{size:04d}.dcm").write_bytes(whole[:size])

    found = discover(cut_folder)

    assert found.studies == ()
    assert len(found.skipped) == len(whole) - 132
    late = [skip for skip in found.skipped if int(skip.path.stem) > len(whole) - 90]
    assert {skip.code for skip in late} == {"dicom.truncated"}


@pytest.mark.bad_input("A4")
@pytest.mark.parametrize("lost", [1, 7, 40])
def test_a_series_with_one_cut_slice_is_refused(tmp_path: Path, lost: int) -> None:
    last = write_series(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-lost])

    assert refusal(tmp_path).code == "dicom.truncated"


@pytest.mark.bad_input("A4")
def test_a_cut_copy_beside_the_intact_file_costs_nothing(tmp_path: Path) -> None:
    first = write_series(tmp_path)[0]
    (tmp_path / "copy.dcm").write_bytes(first.read_bytes()[:-9])

    volume = read_volume(tmp_path)

    assert volume.shape == (8, 6, 5)


@pytest.mark.bad_input("A4")
def test_a_slice_cut_before_it_says_where_it_belongs_is_noted_by_the_series_beside_it(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "here", 4)
    write_series(tmp_path / "there", 4, SeriesInstanceUID="1.2.3")
    paths[3].write_bytes(paths[3].read_bytes()[:200])

    notes = {len(series.slices): series.notes for series in discover(tmp_path).studies[0].series}

    assert [(note.code, note.message[:7]) for note in notes[3]] == [("dicom.truncated", "1 files")]
    assert notes[4] == ()


@pytest.mark.bad_input("A5")
def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"\x08\x00\x08\x00CS")])

    assert only_skip(path).code in {"dicom.empty", "dicom.truncated"}


@pytest.mark.bad_input("A5")
def test_preamble_and_magic_alone_are_an_empty_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")

    assert only_skip(tmp_path / "a.dcm").code == "dicom.empty"


@pytest.mark.bad_input("A6")
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_after_the_magic_are_refused(tmp_path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).bytes(20_000)
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + noise)

    assert only_skip(tmp_path / "a.dcm").code.startswith("dicom.")


@pytest.mark.bad_input("A7")
@pytest.mark.parametrize("depth", [200, 100_000])
def test_deeply_nested_sequences_are_refused(tmp_path: Path, depth: int) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    opening = element(0x00400275, b"SQ", b"", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    insert_before_pixels(path, opening * depth)

    assert only_skip(path).code == "dicom.nesting"


@pytest.mark.bad_input("A8")
def test_a_sequence_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    insert_before_pixels(path, element(0x00400275, b"SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", 0xFFFFFFFF))

    assert only_skip(path).code == "dicom.malformed"


@pytest.mark.bad_input("A8")
def test_an_attribute_that_claims_four_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    insert_before_pixels(path, element(0x00291010, b"OB", b"", 0xFFFFFFF0))

    assert only_skip(path).code == "dicom.malformed"


@pytest.mark.bad_input("A8")
def test_a_meta_attribute_that_claims_two_gigabytes_is_refused(tmp_path: Path) -> None:
    head = b"\0" * 128 + b"DICM" + element(0x00020001, b"OB", b"\0\1", 2**31)
    (tmp_path / "a.dcm").write_bytes(head + b"\0" * 500)

    assert only_skip(tmp_path / "a.dcm").code == "dicom.malformed"


@pytest.mark.bad_input("A9")
def test_unknown_vr_odd_length_and_long_text_outside_needed_attributes_do_no_harm(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    odd = element(0x00291001, b"LO", b"odd") + element(0x00291003, b"ZZ", b"\0\0\4\0\0\0abcd"[2:])
    insert_before_pixels(path, odd + element(0x00291005, b"SH", b"x" * 900))

    volume = read_volume(path)

    assert volume.shape == (8, 6, 1)


@pytest.mark.bad_input("A9")
def test_a_wrong_vr_on_a_needed_attribute_is_refused_by_name(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    raw = path.read_bytes()
    rows = element(0x00280010, b"US", (6).to_bytes(2, "little"))
    path.write_bytes(raw.replace(rows, element(0x00280010, b"CS", b"SI")))

    skip = only_skip(path)

    assert skip.code == "dicom.bad_value"
    assert "(0028,0010) Rows" in skip.reason


@pytest.mark.bad_input("A9")
def test_a_sequence_of_vr_un_is_walked(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    inner = b"\x08\x00\x00\x01\x02\x00\x00\x00AB"  # implicit VR inside UN
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    insert_before_pixels(path, element(0x00291010, b"UN", item + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF))

    assert read_volume(path).shape == (8, 6, 1)


@pytest.mark.bad_input("A9")
def test_tolerated_attributes_are_noted(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    insert_before_pixels(path, element(0x00291001, b"LO", b"odd"))

    notes = read_volume(path).notes

    assert any(note.code == "dicom.bad_value" and "(0029,1001)" in note.message for note in notes)


@pytest.mark.bad_input("A10")
@pytest.mark.parametrize("wrong", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_declared_encoding_that_is_not_the_real_one_is_refused(tmp_path: Path, wrong: str) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    raw = path.read_bytes()
    start = raw.index(b"\x08\x00\x08\x00CS")
    other = write(make_slice(), tmp_path / "b.dcm", wrong).read_bytes()
    other_start = other.index(b"\x08\x00\x08\x00" if wrong == ImplicitVRLittleEndian else b"\x00\x08\x00\x08")
    path.write_bytes(other[:other_start] + raw[start:])
    (tmp_path / "b.dcm").unlink()

    assert only_skip(path).code in {"dicom.malformed", "dicom.truncated"}


@pytest.mark.bad_input("A10")
def test_native_pixels_declared_as_compressed_are_refused(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))

    assert only_skip(path).code == "dicom.malformed"


@pytest.mark.bad_input("A11")
def test_a_deflate_bomb_is_refused_under_its_cap(tmp_path: Path) -> None:
    plain = element(0x00080060, b"CS", b"CT") + element(0x7FE00010, b"OW", b"", 2**30)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(plain)
    for _ in range(64):
        packed += packer.compress(b"\0" * 2**20)
    packed += packer.flush()
    syntax = element(0x00020010, b"UI", str(DeflatedExplicitVRLittleEndian).encode())
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + syntax + packed)

    assert only_skip(tmp_path / "a.dcm", Limits(inflated_bytes=2**24)).code == "limit.inflate"


@pytest.mark.bad_input("A12")
@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_rare_encodings_equal_the_plain_copy(tmp_path: Path, syntax: str) -> None:
    plain = read_volume(write_series(tmp_path / "plain", 3)[0].parent)
    paths = []
    for number in range(3):
        dataset = make_slice(number)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = slice_pixels(number).astype(">u2").tobytes()
        paths.append(write(dataset, tmp_path / "rare" / str(number), syntax))

    volume = read_volume(paths[0].parent)

    np.testing.assert_array_equal(volume.voxels, plain.voxels)
    np.testing.assert_allclose(volume.affine_ras, plain.affine_ras)


@pytest.mark.bad_input("A13")
def test_other_objects_beside_the_volume_are_named_and_sr_is_offered_as_report(tmp_path: Path) -> None:
    write_series(tmp_path)
    others = {
        "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation",
        "1.2.840.10008.5.1.4.1.1.11.1": "Presentation State",
        "1.2.840.10008.5.1.4.1.1.481.3": "RT Structure",
        "1.2.840.10008.5.1.4.1.1.88.59": "Key Object",
        "1.2.840.10008.5.1.4.1.1.104.1": "Encapsulated PDF",
        "1.2.840.10008.5.1.4.1.1.9.1.1": "ECG",
        "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
        "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound",
    }
    for number, uid in enumerate(others):
        write(make_slice(50 + number, SOPClassUID=uid, SeriesInstanceUID=generate_uid()), tmp_path / f"o{number}")
    localizer = make_slice(70, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID=generate_uid())
    write(localizer, tmp_path / "scout")
    write(make_slice(80, SOPClassUID=BasicTextSRStorage, PixelData=None), tmp_path / "sr")

    found = discover(tmp_path)

    assert len(found.studies) == 1
    assert [len(series.slices) for series in found.studies[0].series] == [5]
    assert [report.path.name for report in found.studies[0].reports] == ["sr"]
    reasons = " | ".join(skip.reason for skip in found.skipped)
    assert all(word in reasons for word in [*others.values(), "localizer"])
    assert {skip.code for skip in found.skipped} == {""}


@pytest.mark.bad_input("A14")
@pytest.mark.parametrize("pixels", [None, b""])
def test_an_image_without_pixels_is_refused(tmp_path: Path, pixels: bytes | None) -> None:
    path = write(make_slice(PixelData=pixels), tmp_path / "a.dcm")

    assert only_skip(path).code == "dicom.no_pixels"


@pytest.mark.bad_input("A15")
@pytest.mark.parametrize("magic", [b"MZ\x90\0", b"\x7fELF"])
def test_a_preamble_that_starts_a_program_is_noted(tmp_path: Path, magic: bytes) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    path.write_bytes(magic + path.read_bytes()[len(magic) :])

    volume = read_volume(path)

    assert "dicom.polyglot" in {note.code for note in volume.notes}


@pytest.mark.bad_input("A16")
@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("Rows", "(0028,0010)"),
        ("Columns", "(0028,0011)"),
        ("BitsAllocated", "(0028,0100)"),
        ("SeriesInstanceUID", "(0020,000E)"),
        ("StudyInstanceUID", "(0020,000D)"),
    ],
)
def test_a_missing_needed_attribute_is_refused_by_name(tmp_path: Path, keyword: str, name: str) -> None:
    skip = only_skip(write(make_slice(**{keyword: None}), tmp_path / "a.dcm"))

    assert skip.code == "dicom.missing_tag"
    assert name in skip.reason


@pytest.mark.bad_input("A16")
def test_several_values_where_one_is_due_are_refused_by_name(tmp_path: Path) -> None:
    skip = only_skip(write(make_slice(RescaleSlope=["1", "2"]), tmp_path / "a.dcm"))

    assert skip.code == "dicom.missing_tag"
    assert "(0028,1053)" in skip.reason


@pytest.mark.bad_input("A17")
def test_unreadable_things_are_skipped_with_a_reason_and_nothing_hangs(tmp_path: Path) -> None:
    write_series(tmp_path, 2)
    (tmp_path / "folder.dcm").mkdir()
    (tmp_path / "broken.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / os.fsdecode(b"na\xefve.dcm")).write_bytes(b"text that is no DICOM at all\n" * 9)

    found = discover(tmp_path)

    codes = {os.fsencode(skip.path.name): skip.code for skip in found.skipped}
    assert {codes[name] for name in (b"broken.dcm", b"loop.dcm", b"pipe.dcm", b"socket")} == {"io.unreadable"}
    assert codes[b"na\xefve.dcm"] == ""
    assert [len(series.slices) for series in found.studies[0].series] == [2]


@pytest.mark.bad_input("A17")
def test_a_file_without_read_permission_is_skipped(tmp_path: Path) -> None:
    path = write(make_slice(), tmp_path / "a.dcm")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything (root)")

    assert only_skip(path).code == "io.unreadable"


@pytest.mark.bad_input("A17")
def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found neither") as caught:
        discover(tmp_path / "absent")

    assert caught.value.code == "io.unreadable"


def make_zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.dcm", content)
        archive.writestr("/outside.dcm", content)
        archive.writestr("bomb", bytes(2**22))
        for n in range(1000):
            archive.writestr(f"many/{n}", b"")


def make_tar(path: Path, content: bytes, mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name, kind in (("../outside.dcm", tarfile.REGTYPE), ("link", tarfile.SYMTYPE), ("/hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../../outside.dcm"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.bad_input("A18")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_given_as_input_is_refused_and_nothing_is_unpacked(tmp_path: Path, kind: str) -> None:
    content = write(make_slice(), tmp_path / "a.dcm").read_bytes()
    path = tmp_path / "work" / f"study.{kind}"
    path.parent.mkdir()
    if kind == "zip":
        make_zip(path, content)
    else:
        make_tar(path, content, f"w:{kind.partition('.')[2]}")

    for use in (discover, read_volume):
        with pytest.raises(InputError, match="archive") as caught:
            use(path)
        assert caught.value.code == "limit.archive"
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["a.dcm", path.name, "work"]


@pytest.mark.bad_input("A18")
def test_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 3)
    make_zip(tmp_path / "study.zip", paths[0].read_bytes())

    found = discover(tmp_path)

    assert [(item.path.name, item.reason, item.code) for item in found.skipped] == [
        ("study.zip", "not DICOM: zip archive", "")
    ]
    assert len(found.studies[0].series[0].slices) == 3


@pytest.mark.bad_input("A13")
def test_a_dicomdir_stands_for_its_folder_and_lists_what_is_missing(tmp_path: Path) -> None:
    for path in write_series(tmp_path, 3):
        path.rename(path.with_suffix(""))
    directory = Dataset()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    records = []
    for name in ("IM0000", "IM9999"):
        record = Dataset()
        record.ReferencedFileID = name
        records.append(record)
    directory.DirectoryRecordSequence = Sequence(records)
    write(directory, tmp_path / "DICOMDIR")

    found = discover(tmp_path / "DICOMDIR")

    assert [len(series.slices) for series in found.studies[0].series] == [3]
    assert "1 of the 2 files" in found.skipped[0].reason
