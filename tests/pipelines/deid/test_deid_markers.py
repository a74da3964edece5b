"""Nothing that identifies is in any byte written: every listed attribute, every text attribute, every hiding place."""

import warnings
from pathlib import Path

import pydicom
import pytest
from deid_builders import KEY, make_image, save
from pydicom import config
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from pipelines.deidentify import Options
from pipelines.deidentify.actions import read_rows
from pipelines.deidentify.files import Written, deidentify_file

ALL_OPTIONS = Options(
    shift_dates=True, clean_descriptors=True, keep_device=True, keep_characteristics=True, clean_content=True
)
MARK = "ZZMARK"
MARKED_DATE = "19430217"
# Short representations hold what they can; each value is unlike anything that is written for other reasons.
VALUES = {
    "AE": MARK, "AS": "093Y", "CS": "zzmark", "DA": MARKED_DATE, "DT": MARKED_DATE + "101112", "TM": "031337.4711",
    "DS": "47114711.5", "IS": "47114711", "LO": MARK, "LT": MARK, "PN": f"{MARK}^{MARK}", "SH": MARK, "ST": MARK,
    "UC": MARK, "UI": "1.2.3.4711.4711", "UR": f"http://{MARK}", "UT": MARK, "OB": MARK.encode(), "OW": MARK.encode(),
    "UN": MARK.encode(),
}  # fmt: skip
FORBIDDEN = (b"ZZMARK", b"zzmark", MARKED_DATE.encode(), b"031337", b"4711.4711", b"47114711")
STRUCTURAL = {"PixelData", "SpecificCharacterSet", "SOPClassUID"}


@pytest.fixture(autouse=True)
def _lenient() -> object:
    """Marked values break the rules of their representations on purpose."""
    reading, writing = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    yield
    config.settings.reading_validation_mode, config.settings.writing_validation_mode = reading, writing


def _marked(tags: list[int], *, nested: bool) -> Dataset:
    """An image with a marker in each of `tags` that can hold one, at the top or two sequences deep."""
    image = make_image()
    inner = Dataset()
    target = inner if nested else image
    for tag in tags:
        vr = pydicom.datadict.dictionary_VR(tag).split(" or ")[-1]
        if vr in VALUES and pydicom.datadict.keyword_for_tag(tag) not in STRUCTURAL and (nested or tag not in image):
            target.add_new(tag, vr, VALUES[vr])
    if nested:
        middle = Dataset()
        middle.ContentSequence = [inner]
        image.SourceImageSequence = [middle]
    return image


def _listed() -> list[int]:
    rows = (int(row.tag, 16) for row in read_rows() if "X" not in row.tag)
    return [tag for tag in rows if tag in DicomDictionary and tag >> 16 > 7]


def _free_text() -> list[int]:
    """Attributes of the whole dictionary that can hold free text and are not known to be needed."""
    from pipelines.deidentify.actions import build_table

    kept = set(build_table(Options()).kept_text)
    text = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "UR", "AE")
    return [
        tag for tag, entry in DicomDictionary.items()
        if entry[0] in text and tag >> 16 > 7 and tag not in kept and entry[4] not in STRUCTURAL
    ]  # fmt: skip


def _written_bytes(dataset: Dataset, folder: Path, options: Options) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = deidentify_file(save(dataset, folder / "in.dcm"), folder / "out", KEY, options)
    assert isinstance(result, Written)
    return (folder / "out" / result.output).read_bytes()


@pytest.mark.bad_input("I4")
@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
def test_no_listed_attribute_keeps_its_value(tmp_path: Path, nested: bool) -> None:
    tags = _listed()

    written = _written_bytes(_marked(tags, nested=nested), tmp_path, Options())

    assert len(tags) > 600
    assert [mark for mark in FORBIDDEN if mark in written] == []


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
@pytest.mark.parametrize("options", [Options(), ALL_OPTIONS], ids=["basic", "all-options"])
def test_no_free_text_of_the_whole_dictionary_survives(tmp_path: Path, nested: bool, options: Options) -> None:
    listed = {int(row.tag, 16) for row in read_rows() if "X" not in row.tag and row.columns["device"]}
    tags = [tag for tag in _free_text() if options == Options() or tag not in listed]
    image = _marked(tags, nested=nested)
    image.PatientName = "ZZMARK^JANE"

    written = _written_bytes(image, tmp_path, options)

    assert len(tags) > 600
    assert b"ZZMARK" not in written


def test_an_identifier_of_the_file_is_taken_out_of_attributes_that_are_kept(tmp_path: Path) -> None:
    image = make_image(
        PatientName="Quux^Jane", Manufacturer="for Quux", ConvolutionKernel="B30f", BodyPartExamined="QUUX"
    )

    written = _written_bytes(image, tmp_path, ALL_OPTIONS)

    assert b"quux" not in written.lower()
    assert b"B30f" in written


def test_private_attributes_overlays_curves_and_padding_are_gone(tmp_path: Path) -> None:
    image = make_image()
    image.private_block(0x0011, "ZZMARK CREATOR", create=True).add_new(1, "LO", MARK)
    image.add_new(0x60000022, "LO", MARK)
    image.add_new(0x60003000, "OW", MARK.encode())
    image.add_new(0x50003000, "OW", MARK.encode())
    image.add_new(0xFFFCFFFC, "OB", MARK.encode())
    image.PixelData += b"ZZMARK"

    written = _written_bytes(image, tmp_path, ALL_OPTIONS)

    assert b"ZZMARK" not in written


def test_preamble_and_file_meta_information_are_new(tmp_path: Path) -> None:
    image = make_image()
    image.preamble = b"ZZMARK" + bytes(122)
    image.file_meta.SourceApplicationEntityTitle = MARK
    image.file_meta.ImplementationVersionName = MARK
    image.file_meta.PrivateInformationCreatorUID = "1.2.3.4711.4711"
    image.file_meta.PrivateInformation = MARK.encode()

    written = _written_bytes(image, tmp_path, Options())

    assert [mark for mark in FORBIDDEN if mark in written] == []
    assert b"1.2.3.4" not in written


def test_other_character_sets_are_cleaned_as_well(tmp_path: Path) -> None:
    image = make_image(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg", Manufacturer="bei Müller")

    written = _written_bytes(image, tmp_path, Options())

    assert "Müller".encode("latin-1") not in written
    assert "Müller".encode() not in written


def test_compressed_pixels_are_copied_as_they_are(tmp_path: Path) -> None:
    image = make_image()
    image.compress(RLELossless)

    written = _written_bytes(image, tmp_path, Options())

    assert image["PixelData"].value[8:-8] in written  # the fragment, without the delimiters around it
