"""Structured reports as plain text."""

from pathlib import Path

import pytest
from dicom_builders import make_slice, write
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage

from medmm.dicom.text import read_sr_text
from medmm.errors import InputError


def code(meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", meaning
    return Sequence([item])


def content(kind: str, name: str, relation: str = "CONTAINS", children: tuple = (), **values: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    item.ConceptNameCodeSequence = code(name)
    for keyword, value in values.items():
        setattr(item, keyword, value)
    if children:
        item.ContentSequence = Sequence(children)
    return item


def report(path: Path, *children: Dataset, charset: str = "ISO_IR 192") -> Path:
    dataset = make_slice(SOPClassUID=BasicTextSRStorage, PixelData=None, Modality="SR")
    dataset.SpecificCharacterSet = charset
    dataset.ValueType, dataset.ContentSequence = "CONTAINER", Sequence(children)
    return write(dataset, path)


def test_containers_become_headings_and_items_follow_in_order(tmp_path: Path) -> None:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", code("millimeter")
    path = report(
        tmp_path / "a",
        content("PNAME", "Person Observer Name", "HAS OBS CONTEXT", PersonName="Roe^Richard"),
        content("CONTAINER", "Findings", children=(content("TEXT", "Finding", TextValue="Mass.\r\nEdema."),)),
        content("NUM", "Diameter", MeasuredValueSequence=Sequence([measured])),
        content("CODE", "Laterality", ConceptCodeSequence=code("Left")),
        content("TEXT", "Impression", TextValue="Glioma?"),
    )

    text = read_sr_text(path)

    assert text == "Findings:\nMass.\nEdema.\n\nDiameter: 12.5 millimeter\n\nLaterality: Left\n\nImpression:\nGlioma?"


@pytest.mark.bad_input("D7")
@pytest.mark.parametrize(("charset", "word"), [("ISO_IR 192", "Ödem “klein”"), ("ISO_IR 100", "Ödem"), ("", "Oedem")])
def test_text_is_decoded_in_its_character_set(tmp_path: Path, charset: str, word: str) -> None:
    path = report(tmp_path / "a", content("TEXT", "Finding", TextValue=word), charset=charset)

    assert read_sr_text(path).endswith(word)


@pytest.mark.bad_input("D7")
def test_bytes_that_do_not_decode_become_replacement_characters(tmp_path: Path) -> None:
    path = report(tmp_path / "a", content("TEXT", "Finding", TextValue="Odem hier"))
    path.write_bytes(path.read_bytes().replace(b"Odem", b"\xffdem"))

    assert "�dem hier" in read_sr_text(path)


def test_an_image_and_a_text_file_are_no_reports(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("plain words " * 30)

    for path in (write(make_slice(), tmp_path / "image"), tmp_path / "text"):
        with pytest.raises(InputError) as caught:
            read_sr_text(path)
        assert caught.value.code == "report.format"


@pytest.mark.shared
def test_every_report_of_the_teaching_studies_holds_the_sections_of_its_text_file(shared_data: Path) -> None:
    for folder in sorted(path for path in (shared_data / "medpix_dicom").iterdir() if path.is_dir()):
        text = read_sr_text(folder / "DICOM" / "SR0001.dcm")
        lines = [line.strip() for line in (folder / "report.txt").read_text(encoding="utf-8").splitlines()]
        body = [line for line in lines if len(line) > 40 and not line.startswith("PATIENT:")]
        missing = [line for line in body if line not in text]
        assert body
        assert not missing
