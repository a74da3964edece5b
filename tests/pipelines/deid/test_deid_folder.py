"""A folder: every file ends written, left out or refused; names, failures, burned-in text, reports, the id map."""

import csv
import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from deid_builders import KEY, PIXELS, make_image, save
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, EncapsulatedPDFStorage, RLELossless, SecondaryCaptureImageStorage
from typer.testing import CliRunner

from medmm.dicom.limits import Limits
from medmm.errors import InputError, UsageError
from pipelines.cli.app import app
from pipelines.deidentify import DeidJob, Options, deidentify_folder
from pipelines.deidentify.files import deidentify_file
from pipelines.deidentify.table import with_table

MakeJob = Callable[..., DeidJob]


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "failures.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def _images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def _set_class(dataset: Dataset, uid: str) -> Dataset:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid
    return dataset


def test_one_bad_file_never_costs_the_others(make_job: MakeJob) -> None:
    job = make_job(workers=2)
    for number in range(4):
        save(make_image(number), job.folder / f"Doe^Jane {number}.dcm")
    cut = job.folder / "Doe cut.dcm"
    cut.write_bytes((job.folder / "Doe^Jane 0.dcm").read_bytes()[:-30])
    (job.folder / "notes.txt").write_text("Jane Doe")
    (job.folder / "link.dcm").symlink_to(job.folder / "nowhere")
    save(_set_class(make_image(9), EncapsulatedPDFStorage), job.folder / "letter.dcm")

    summary = deidentify_folder(job)

    assert (summary.written, summary.exit_code) == (4, 1)
    assert summary.refused == {"dicom.truncated": 1, "io.unreadable": 1}
    assert sum(summary.skipped.values()) == 2
    assert len(_images(job.output)) == 4
    assert [row["code"] for row in _rows(job.output)] == ["dicom.truncated", "io.unreadable"]
    assert json.loads((job.output / "deid.json").read_text())["written"] == 4


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "rle"])
@pytest.mark.parametrize("left_out", [1, 9, 100, 400])
def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path, is_compressed: bool, left_out: int) -> None:
    image = make_image()
    if is_compressed:
        image.compress(RLELossless)
    path = save(image, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-left_out])

    with pytest.raises(InputError) as caught:
        deidentify_file(path, tmp_path / "out", KEY, Options())

    assert caught.value.code in ("dicom.truncated", "dicom.malformed")
    assert not (tmp_path / "out").exists()


def test_names_in_the_output_say_nothing(make_job: MakeJob) -> None:
    job = make_job()
    save(make_image(0, PatientID="../../Doe"), job.folder / "Doe" / "Jane.dcm")
    save(make_image(1, PatientID="P9", StudyInstanceUID="1.9"), job.folder / "bad name\n.dcm").write_bytes(b"DICM" * 99)

    deidentify_folder(job)

    everything = list(job.output.rglob("*"))
    texts = [path.read_text("latin-1") for path in everything if path.is_file()]
    assert not [path for path in everything if "Doe" in str(path.relative_to(job.output))]
    assert not [text for text in texts if "Doe" in text or "Jane" in text or str(job.folder) in text]
    assert not (job.output.parent.parent / "Doe").exists()


def test_two_runs_with_one_key_write_the_same_bytes(make_job: MakeJob, tmp_path: Path) -> None:
    first, second = make_job(), make_job(output=tmp_path / "again", workers=2)
    for number in range(3):
        save(make_image(number), first.folder / f"{number}.dcm")

    deidentify_folder(first)
    deidentify_folder(second)

    pairs = list(zip(_images(first.output), _images(second.output), strict=True))
    assert len(pairs) == 3
    for one, other in pairs:
        assert one.relative_to(first.output) == other.relative_to(second.output)
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("said", "is_written"), [("YES", False), ("NO", True), (None, False)])
def test_a_secondary_capture_is_written_only_if_it_denies_burned_in_text(
    make_job: MakeJob, said: str | None, is_written: bool
) -> None:
    job = make_job()
    image = _set_class(make_image(), SecondaryCaptureImageStorage)
    if said:
        image.BurnedInAnnotation = said
    save(image, job.folder / "sc.dcm")

    summary = deidentify_folder(job)

    assert (summary.written, summary.refused) == ((1, {}) if is_written else (0, {"image.burned_in": 1}))


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "rle"])
def test_a_region_is_blanked_and_the_rest_of_the_pixels_stays(make_job: MakeJob, is_compressed: bool) -> None:
    masks = make_job().folder.parent / "masks.csv"
    masks.write_text("modality,x,y,width,height\nMR,0,0,8,2\nUS,0,0,8,8\n")
    job = make_job(options=Options(masks=masks))
    image = make_image(5, BurnedInAnnotation="YES")
    if is_compressed:
        image.compress(RLELossless, generate_instance_uid=False)
    save(image, job.folder / "one.dcm")

    summary = deidentify_folder(job)

    copy = pydicom.dcmread(_images(job.output)[0])
    expected = PIXELS + 5
    expected[:2] = 5
    np.testing.assert_array_equal(copy.pixel_array, expected)
    assert (summary.masked, copy.BurnedInAnnotation) == (1, "NO")
    assert "113101" in [item.CodeValue for item in copy.DeidentificationMethodCodeSequence]


def test_a_study_that_names_two_patients_is_not_merged(make_job: MakeJob) -> None:
    job = make_job()
    save(make_image(0), job.folder / "a.dcm")
    save(make_image(1, PatientID="P2"), job.folder / "b.dcm")

    summary = deidentify_folder(job)

    assert (summary.written, summary.refused) == (1, {"identity.conflict": 1})
    assert len(_images(job.output)) == 1


def test_patients_without_id_are_never_one(make_job: MakeJob) -> None:
    job = make_job()
    for number, study in enumerate(("1.2.10", "1.2.11")):
        save(make_image(number, PatientID="", StudyInstanceUID=study), job.folder / f"{number}.dcm")

    deidentify_folder(job)

    assert len({pydicom.dcmread(path).PatientID for path in _images(job.output)}) == 2


def test_a_file_that_takes_too_long_is_refused_alone(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(limits=Limits(seconds=0.0001))
    save(make_image(), job.folder / "a.dcm")

    summary = deidentify_folder(job)

    assert summary.refused == {"limit.time": 1}


def test_the_id_map_is_for_its_owner_alone_and_not_in_the_output(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(id_map=tmp_path / "who.csv")
    save(make_image(), job.folder / "a.dcm")
    (job.folder / "bad.dcm").write_bytes((job.folder / "a.dcm").read_bytes()[:-9])

    deidentify_folder(job)

    content = (tmp_path / "who.csv").read_text()
    assert stat.S_IMODE((tmp_path / "who.csv").stat().st_mode) == 0o600
    assert "P1" in content
    assert "bad.dcm" in content
    with pytest.raises(UsageError, match="id map would lie in the output"):
        deidentify_folder(make_job(output=tmp_path / "o", id_map=tmp_path / "o" / "who.csv"))


def test_structured_reports_are_written_on_request_with_their_text_scrubbed(make_job: MakeJob) -> None:
    job = make_job()
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121071", "DCM", "Finding"
    text, observer = Dataset(), Dataset()
    text.RelationshipType, text.ValueType, text.ConceptNameCodeSequence = "CONTAINS", "TEXT", [code]
    text.TextValue = "Mass in the left kidney of Ms. Doe, seen on 03/04/2020 by Dr. Quux."
    observer.RelationshipType, observer.ValueType, observer.PersonName = "HAS OBS CONTEXT", "PNAME", "Quux"
    report = _set_class(make_image(), BasicTextSRStorage)
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.ContentSequence, report.ValueType = [observer, text], "CONTAINER"
    save(report, job.folder / "sr.dcm")

    without = deidentify_folder(job)
    with_them = deidentify_folder(make_job(options=Options(clean_content=True), may_overwrite=True))

    written = pydicom.dcmread(_images(job.output)[0])
    assert (without.written, with_them.written) == (0, 1)
    assert [item.TextValue for item in written.ContentSequence] == [
        "Mass in the left kidney of Ms. [ID], seen on [DATE] by [NAME]. [ID]."
    ]


def test_reports_go_under_the_pseudonym_of_their_patient(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "P1.txt").write_text("Patient: Jane Doe\nFINDINGS:\nNo mass. doe was seen in 2019.\n")
    (tmp_path / "reports" / "P7.txt").write_text("FINDINGS:\nNobody's.\n")
    job = make_job(reports=tmp_path / "reports")
    save(make_image(), job.folder / "a.dcm")

    summary = deidentify_folder(job)

    patient = pydicom.dcmread(_images(job.output)[0]).PatientID
    text = (job.output / "reports" / f"{patient}.txt").read_text()
    assert text.split() == ["Patient:", "[REMOVED]", "FINDINGS:", "No", "mass.", "[ID]", "was", "seen", "in", "[DATE]."]
    assert (summary.written, summary.refused) == (2, {"identity.conflict": 1})


def test_a_folder_with_other_things_in_it_is_not_used(make_job: MakeJob) -> None:
    job = make_job(may_overwrite=True)
    save(make_image(), job.folder / "a.dcm")
    job.output.mkdir()
    (job.output / "thesis.txt").write_text("x")

    with pytest.raises(UsageError, match="not empty") as caught:
        deidentify_folder(job)

    assert caught.value.code == "config.output"


@pytest.mark.parametrize("table", ["x,y\n1,2\n", "x,y,width,height\n1,2,three,4\n", "x,y,width,height\n0,0,0,5\n"])
def test_a_bad_table_of_masks_stops_before_any_work(make_job: MakeJob, tmp_path: Path, table: str) -> None:
    (tmp_path / "masks.csv").write_text(table)
    job = make_job(options=Options(masks=tmp_path / "masks.csv"))
    save(make_image(), job.folder / "a.dcm")

    with pytest.raises(UsageError, match="table of masks"):
        deidentify_folder(job)

    assert not job.output.exists()


def test_the_command_says_what_happened_and_ends_with_1_when_files_were_refused(make_job: MakeJob) -> None:
    job = make_job()
    save(make_image(BodyPartExamined="HEAD"), job.folder / "Doe.dcm")
    save(make_image(1, BurnedInAnnotation="YES"), job.folder / "b.dcm")

    result = CliRunner().invoke(app, ["deid", str(job.folder), str(job.output), "--id-key", str(job.id_key)])

    assert result.exit_code == 1
    assert "1 files written, 1 refused" in result.output
    assert "1 x image.burned_in" in result.output
    assert "a face can be rendered" in result.output
    assert "Doe" not in result.output


def test_the_page_shows_the_table_that_is_used() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "deidentify.md").read_text()

    assert with_table(page) == page
    assert "| (0010,0010) | Patient's Name | Z | empty |" in page
