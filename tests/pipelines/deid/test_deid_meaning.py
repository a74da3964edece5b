"""What has to survive de-identification: geometry, pixels, and that things which belonged together still do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from deid_builders import KEY, PIXELS, make_image, save
from pydicom.dataset import Dataset

import medmm
from medmm.synthetic import Cohort, write_cohort
from pipelines.deidentify import DeidJob, Options, deidentify_folder
from pipelines.deidentify.files import Written, deidentify_file
from pipelines.deidentify.pseudonyms import SHIFT_DAYS, Pseudonyms, shift_date

MakeJob = Callable[..., DeidJob]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two phantom patients."""
    return write_cohort(tmp_path_factory.mktemp("deid"), n_cases=2, seed=0)


def _copy(dataset: Dataset, folder: Path, options: Options | None = None, key: bytes = KEY) -> pydicom.Dataset:
    name = str(dataset.SOPInstanceUID)
    result = deidentify_file(save(dataset, folder / "in" / name), folder / "out", key, options or Options())
    assert isinstance(result, Written)
    return pydicom.dcmread(folder / "out" / result.output)


def test_volumes_read_the_same_after_de_identification(phantoms: Cohort, make_job: MakeJob) -> None:
    job = make_job(folder=phantoms.studies / "PHANTOM-0001", options=Options(clean_descriptors=True))

    summary = deidentify_folder(job)

    before = medmm.discover(job.folder).studies[0].series
    after = medmm.discover(job.output).studies[0].series
    pairs = [(medmm.read_volume(one), medmm.read_volume(other))
             for one, other in zip(sorted(before, key=_number), sorted(after, key=_number), strict=True)]  # fmt: skip
    assert (summary.exit_code, len(pairs)) == (0, 3)
    for one, other in pairs:
        np.testing.assert_array_equal(one.voxels, other.voxels)
        np.testing.assert_array_equal(one.affine_ras, other.affine_ras)
        assert (one.modality, one.unit) == (other.modality, other.unit)


def _number(series: medmm.dicom.Series) -> int:
    return series.header.series_number or 0


def test_pixels_and_geometry_are_untouched(tmp_path: Path) -> None:
    copy = _copy(make_image(3), tmp_path)

    assert copy.PixelData == (PIXELS + 3).tobytes()
    assert list(copy.ImagePositionPatient) == [0, 0, 7.5]
    assert (copy.PixelSpacing[0], copy.SliceThickness, copy.InstanceNumber) == (0.9, 2.5, 4)


def test_references_between_files_still_fit(tmp_path: Path) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.0"

    first = _copy(make_image(0), tmp_path)
    second = _copy(make_image(1, ReferencedImageSequence=[reference]), tmp_path)

    inner = second.ReferencedImageSequence[0]
    assert inner.ReferencedSOPInstanceUID == first.SOPInstanceUID == first.file_meta.MediaStorageSOPInstanceUID
    assert inner.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert first[name].value == second[name].value
        assert not str(first[name].value).startswith("1.2.3")


def test_another_key_gives_other_pseudonyms_and_uids(tmp_path: Path) -> None:
    one = _copy(make_image(), tmp_path / "a")
    other = _copy(make_image(), tmp_path / "b", key=bytes(32))

    assert one.PatientID != other.PatientID
    assert one.StudyInstanceUID != other.StudyInstanceUID


def test_uids_are_valid_and_those_of_the_standard_stay() -> None:
    pseudonyms = Pseudonyms(KEY)

    made = pydicom.uid.UID(pseudonyms.uid("1.2.3"))

    assert made.is_valid
    assert made.startswith("2.25.")
    assert pseudonyms.uid("1.2.840.10008.1.2.1") == "1.2.840.10008.1.2.1"


def test_dates_of_a_patient_move_together_and_keep_their_distances(tmp_path: Path) -> None:
    options = Options(shift_dates=True)

    first = _copy(make_image(0, AcquisitionDateTime="20200103101112.5+0100"), tmp_path, options)
    second = _copy(make_image(1, StudyDate="20210103", PatientBirthDate="19500101"), tmp_path, options)

    days = [pydicom.valuerep.DA(one.StudyDate) for one in (first, second)]
    assert (days[1] - days[0]).days == 366
    assert SHIFT_DAYS[0] <= (pydicom.valuerep.DA("20200103") - days[0]).days <= SHIFT_DAYS[1]
    assert first.AcquisitionDateTime == f"{first.StudyDate}101112.5+0100"
    assert first.StudyTime == "101112"
    assert not second.PatientBirthDate
    assert first.LongitudinalTemporalInformationModified == "MODIFIED"


def test_dates_are_removed_without_the_option(tmp_path: Path) -> None:
    copy = _copy(make_image(), tmp_path)

    assert not copy.StudyDate
    assert not copy.StudyTime
    assert copy.LongitudinalTemporalInformationModified == "REMOVED"


@pytest.mark.parametrize("text", ["2020", "20201399", "yesterday", "20200103; Jane Doe", "00010101", ""])
def test_what_is_no_full_date_is_dropped_rather_than_shifted(text: str) -> None:
    assert shift_date(text, -400) == ""


def test_files_say_what_was_done(tmp_path: Path) -> None:
    copy = _copy(make_image(), tmp_path, Options(shift_dates=True, keep_device=True))

    codes = [item.CodeValue for item in copy.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113109"]
    assert copy.PatientIdentityRemoved == "YES"
    assert "PS3.15" in copy.DeidentificationMethod[0]


def test_patient_characteristics_stay_only_when_asked_for_and_ages_are_capped(tmp_path: Path) -> None:
    without = _copy(make_image(), tmp_path / "a")
    with_them = _copy(make_image(PatientWeight="70"), tmp_path / "b", Options(keep_characteristics=True))

    assert not without.PatientSex
    assert "PatientAge" not in without
    assert (with_them.PatientSex, with_them.PatientAge, with_them.PatientWeight) == ("F", "090Y", 70)


def test_descriptions_keep_words_of_the_allow_list_only(tmp_path: Path) -> None:
    image = make_image(SeriesDescription="AX T1 post GD Doe 4711 Smith's", StudyDescription="Dr. Miller private")

    without = _copy(image, tmp_path / "a")
    cleaned = _copy(image, tmp_path / "b", Options(clean_descriptors=True))

    assert "SeriesDescription" not in without
    assert cleaned.SeriesDescription == "AX T1 post GD s"
    assert cleaned.StudyDescription == "REMOVED"


def test_device_identity_stays_only_when_asked_for(tmp_path: Path) -> None:
    image = make_image(StationName="MR1", DeviceSerialNumber="123456")

    without = _copy(image, tmp_path / "a")
    with_it = _copy(image, tmp_path / "b", Options(keep_device=True))

    assert "123456" not in str(without)
    assert (with_it.StationName, with_it.DeviceSerialNumber) == ("MR1", "123456")


def test_an_empty_contrast_agent_does_not_become_one(tmp_path: Path) -> None:
    copy = _copy(make_image(ContrastBolusAgent=""), tmp_path)

    assert not copy.ContrastBolusAgent
