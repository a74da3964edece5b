"""Results as DICOM: in the right place, of the right patient, new, marked as research, and valid for other readers."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from report_examples import make_explanation
from report_sources import PATIENT, STUDY, SourceFolder, write_sources

from medmm.cases import find_cases
from medmm.dicom.references import read_source
from medmm.errors import InputError
from medmm.results import Explanation
from medmm.types import Note

_ALL = ("seg", "pm", "sc", "sr")
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Write = Callable[..., dict[str, Path]]


@pytest.fixture(scope="module", params=["axial", "sagittal"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SourceFolder:
    """The example's volumes as DICOM series, cut along two axes."""
    return write_sources(tmp_path_factory.mktemp(request.param), make_explanation(), request.param)


@pytest.fixture(scope="module")
def axial(tmp_path_factory: pytest.TempPathFactory) -> SourceFolder:
    """The example's volumes as axial DICOM series."""
    return write_sources(tmp_path_factory.mktemp("plain"), make_explanation())


@pytest.fixture(scope="module")
def results(axial: SourceFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Every DICOM result of the example by file name."""
    saved = make_explanation().report().save(tmp_path_factory.mktemp("out"), formats=_ALL, sources=axial.series)
    return {name: dcmread(path) for name, path in saved.dicom.items()}


def _world(affine_ras: np.ndarray, marked: np.ndarray) -> set[tuple[float, ...]]:
    """Positions of marked voxels in mm."""
    points = np.argwhere(marked) @ affine_ras[:3, :3].T + affine_ras[:3, 3]
    return {tuple(point) for point in np.round(points, 3).tolist()}


@pytest.mark.bad_input("I5")
def test_masks_lie_where_the_region_lies(source: SourceFolder, explanation: Explanation, tmp_path: Path) -> None:
    saved = explanation.report().save(tmp_path, formats=["seg"], sources=source.series)

    volume = hd.seg.segread(saved.dicom["seg_flair.dcm"]).get_volume(combine_segments=True)

    region = explanation.diagnosis.regions["tumour"]
    assert _world(_TO_RAS @ volume.affine, volume.array > 0) == _world(region.affine_ras, region.mask > 0)


@pytest.mark.bad_input("I5")
def test_heatmaps_keep_their_values_and_places(source: SourceFolder, explanation: Explanation, tmp_path: Path) -> None:
    saved = explanation.report().save(tmp_path, formats=["pm"], sources=source.series)

    volume = hd.imread(saved.dicom["pm_flair_side.dcm"]).get_volume()

    values = explanation.report().heatmaps["heatmaps/flair_side.nii.gz"]
    for level in (0.5, 1.0):
        found = _world(_TO_RAS @ volume.affine, np.isclose(volume.array, level))
        assert found == _world(values.affine_ras, np.isclose(values.values, level))


@pytest.mark.bad_input("I5")
def test_results_are_new_instances_of_the_same_study(results: dict[str, Dataset], axial: SourceFolder) -> None:
    inputs = [dcmread(path) for path in axial.folder.rglob("*.dcm")]
    old = {item.SOPInstanceUID for item in inputs} | {item.SeriesInstanceUID for item in inputs}
    new = [result.SOPInstanceUID for result in results.values()]

    assert len(results) == 1 + 4 + 2 + 1
    assert len(set(new)) == len(new)
    for name, result in results.items():
        assert not {result.SOPInstanceUID, result.SeriesInstanceUID} & old, name
        for keyword, value in {**PATIENT, **STUDY}.items():
            assert str(result[keyword].value) == value, (name, keyword)


@pytest.mark.bad_input("I5")
def test_results_repeat_no_other_identity(results: dict[str, Dataset]) -> None:
    for name, result in results.items():
        assert "Klinik" not in str(result), name
        assert "Weg 1" not in str(result), name


@pytest.mark.bad_input("I5")
def test_results_name_their_source_instances(results: dict[str, Dataset], axial: SourceFolder) -> None:
    files = {role: {dcmread(path).SOPInstanceUID for path in series.files} for role, series in axial.series.items()}

    def named(result: Dataset) -> set[str]:
        return {item.value for item in result.iterall() if item.keyword == "ReferencedSOPInstanceUID"}

    assert files["flair"] <= named(results["seg_flair.dcm"])
    assert files["t1"] <= named(results["pm_t1_grade.dcm"])
    assert files["t1"] | files["flair"] | {results["seg_flair.dcm"].SOPInstanceUID} <= named(results["sr.dcm"])


def test_key_slice_names_the_slice_that_it_shows(results: dict[str, Dataset], axial: SourceFolder) -> None:
    shown = results["sc_01.dcm"].SourceImageSequence

    position = {dcmread(path).SOPInstanceUID: dcmread(path).InstanceNumber for path in axial.series["flair"].files}
    assert [position[item.ReferencedSOPInstanceUID] for item in shown] == [4]
    assert results["sc_01.dcm"].DerivationDescription == "Tumour outlined. FLAIR, axial slice 4 of 6."


@pytest.mark.bad_input("I5")
def test_results_are_marked_as_research_use(results: dict[str, Dataset]) -> None:
    for name, result in results.items():
        assert "research use only" in result.SeriesDescription, name
    assert results["pm_flair_side.dcm"].ContentQualification == "RESEARCH"
    assert "Research use only" in results["seg_flair.dcm"].ContentDescription
    assert results["sc_01.dcm"].ImageComments == "Research use only, not for diagnosis"
    band = results["sc_01.dcm"].pixel_array[-40:]
    assert band.min() == 0  # black, with white letters burned in
    assert band.max() > 200


def test_inputs_are_not_touched(explanation: Explanation, tmp_path: Path) -> None:
    source = write_sources(tmp_path / "in", explanation)
    before = {path: path.read_bytes() for path in source.folder.rglob("*.dcm")}

    explanation.report().save(tmp_path / "out", formats=_ALL, sources=source.series)

    assert {path: path.read_bytes() for path in source.folder.rglob("*.dcm")} == before


def test_structured_report_is_preliminary_and_unverified(results: dict[str, Dataset]) -> None:
    report = results["sr.dcm"]

    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.CompletionFlag == "COMPLETE"


def test_structured_report_states_answers_probabilities_and_abstention(
    axial: SourceFolder, explanation: Explanation, tmp_path: Path
) -> None:
    saved = explanation.report().save(tmp_path, formats=["seg", "sr"], sources=axial.series)

    report = hd.sr.srread(saved.dicom["sr.dcm"]).content

    assert isinstance(report, hd.sr.MeasurementReport)
    (region,) = report.get_volumetric_roi_measurement_groups()
    assert region.referenced_segment.has_source_images() is False
    assert list(region.referenced_segment[0].referenced_segment_numbers) == [1]
    side, grade = report.get_image_measurement_groups()
    answers = {item.name.meaning: item.value.meaning for item in side.get_qualitative_evaluations()}
    assert answers == {"Side": "Right side", "Not excluded at 90% coverage": "Right side"}
    values = {item.name.meaning: item.value for item in side.get_measurements()}
    assert values == {"Probability": 0.97, "Probability of Right side": 0.97, "Probability of Left side": 0.03}
    assert next(item.value.meaning for item in grade.get_qualitative_evaluations()) == "No answer given"
    assert "Probability" not in {item.name.meaning for item in grade.get_measurements()}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_structured_report_holds_the_draft_in_words(
    axial: SourceFolder, explanation: Explanation, tmp_path: Path, lang: str
) -> None:
    report = explanation.report()
    saved = report.save(tmp_path, formats=["sr"], lang=lang, sources=axial.series)

    stated = [item.value for item in dcmread(saved.dicom["sr.dcm"]).iterall() if item.keyword == "TextValue"]

    draft = report.document(lang=lang).draft
    for statement in (*draft.findings, *draft.impression, *draft.basis):
        assert statement.text in stated
    language = dcmread(saved.dicom["sr.dcm"]).ContentSequence[0].ConceptCodeSequence[0].CodeValue
    assert language.startswith(lang)


def test_answers_with_a_standard_concept_use_its_code(axial: SourceFolder, tmp_path: Path) -> None:
    explained = make_explanation(lambda text: "SCT:24028007" if text == "X:1" else text)

    saved = explained.report().save(tmp_path, formats=["sr"], sources=axial.series)

    codes = {
        (item.CodingSchemeDesignator, item.CodeValue)
        for element in dcmread(saved.dicom["sr.dcm"]).iterall()
        if element.keyword == "ConceptCodeSequence"
        for item in element.value
        if "CodeValue" in item
    }
    assert ("SCT", "24028007") in codes
    assert ("99MEDMM", "low") in codes


@pytest.mark.bad_input("I5")
@pytest.mark.parametrize("name", ["seg_flair.dcm", "pm_flair_side.dcm", "sc_01.dcm", "sr.dcm"])
def test_independent_validator_finds_no_error(results: dict[str, Dataset], name: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    results[name].save_as(tmp_path / name, enforce_file_format=True)

    said = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False).stderr

    assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_dcmtk_reads_the_structured_report(results: dict[str, Dataset], tmp_path: Path) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump (dcmtk) is not installed")
    results["sr.dcm"].save_as(tmp_path / "sr.dcm", enforce_file_format=True)

    said = subprocess.run(["dsrdump", tmp_path / "sr.dcm"], capture_output=True, check=True).stdout

    assert b"Verification Flag   : UNVERIFIED" in said
    assert b'TEXT:(,,"Impression")="Side: Right side' in said


@pytest.mark.slow
@pytest.mark.usefixtures("weasyprint")
def test_pdf_in_dicom_is_the_pdf(axial: SourceFolder, explanation: Explanation, tmp_path: Path) -> None:
    saved = explanation.report().save(tmp_path, formats=["epdf"], sources=axial.series)

    result = dcmread(saved.dicom["report_pdf.dcm"])
    pages = result.EncapsulatedDocument[: result.EncapsulatedDocumentLength]
    assert pages.startswith(b"%PDF-")
    assert pages.rstrip().endswith(b"%%EOF")
    assert result.PatientID == PATIENT["PatientID"]
    assert len(result.SourceInstanceSequence) == sum(len(series.files) for series in axial.series.values())


@pytest.mark.bad_input("I1")
def test_only_dicom_results_carry_identity(axial: SourceFolder, explanation: Explanation, tmp_path: Path) -> None:
    explanation.report().save(tmp_path, formats=["html", "json", "nii", "txt", "seg", "sr"], sources=axial.series)

    secrets = [value.encode() for value in (*PATIENT.values(), *STUDY.values()) if len(value) > 2]
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    assert len(others) >= 7
    for path in others:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content or secret in path.name.encode()], path.name


@pytest.mark.bad_input("I3")
def test_pictures_of_a_source_with_burned_in_text_say_so(axial: SourceFolder, tmp_path: Path) -> None:
    explained = make_explanation(notes=(Note("image.burned_in", "Text may be burned in."),))

    saved = explained.report().save(tmp_path, formats=["sc"], sources=axial.series)

    assert {dcmread(path).BurnedInAnnotation for path in saved.dicom.values()} == {"YES"}


def test_withheld_images_are_withheld_in_dicom_too(
    axial: SourceFolder, explanation: Explanation, tmp_path: Path
) -> None:
    saved = explanation.report().without_images().save(tmp_path, formats=["sc"], sources=axial.series)

    assert saved.dicom == {}


def test_identity_that_the_standard_does_not_allow_is_left_out(explanation: Explanation, tmp_path: Path) -> None:
    source = write_sources(tmp_path / "in", explanation, PatientSex="X")

    saved = explanation.report().save(tmp_path / "out", formats=["seg"], sources=source.series)

    assert dcmread(saved.dicom["seg_flair.dcm"]).PatientSex in ("", None)


def test_without_sources_dicom_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="source series") as caught:
        explanation.report().save(tmp_path, formats=["json", "sr"])

    assert caught.value.code == "output.source"


@pytest.mark.bad_input("H10")
def test_source_that_changed_since_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    source = write_sources(tmp_path / "in", explanation)
    source.series["t1"].files[0].write_bytes(b"\0" * 200)

    with pytest.raises(InputError) as caught:
        explanation.report().save(tmp_path / "out", formats=["sr"], sources=source.series)

    assert caught.value.code == "io.changed"


def test_result_of_another_grid_is_refused(axial: SourceFolder, explanation: Explanation) -> None:
    stack = read_source(axial.series["flair"])

    with pytest.raises(InputError, match="voxels"):
        stack.to_source(np.zeros((4, 4, 4)))


def test_source_without_frame_of_reference_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    source = write_sources(tmp_path, explanation, FrameOfReferenceUID="")

    with pytest.raises(InputError, match=r"\(0020,0052\)"):
        read_source(source.series["flair"])


def test_region_of_a_series_that_is_not_there_is_described_in_words_only(
    axial: SourceFolder, explanation: Explanation, tmp_path: Path
) -> None:
    only = {"t1": axial.series["t1"]}

    saved = explanation.report().save(tmp_path, formats=["seg", "sr"], sources=only)

    assert list(saved.dicom) == ["sr.dcm"]


def test_long_and_foreign_titles_fit_the_standard(axial: SourceFolder, tmp_path: Path) -> None:
    explained = make_explanation(lambda text: f"{text}\\ 病灶 " + "x" * 80)

    saved = replace(explained, notes=()).report().save(tmp_path, formats=_ALL, sources=axial.series)

    assert len(dcmread(saved.dicom["seg_flair.dcm"]).SegmentSequence[0].SegmentLabel) <= 64


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.bad_input("I5")
def test_masks_of_a_real_series_mark_the_pixels_of_the_instances_they_name(shared_data: Path, tmp_path: Path) -> None:
    plan = find_cases(shared_data / "lgg_dicom" / "TCGA-CS-4944", roles=("flair",), id_key=bytes(32)).plans[0]
    case, explained = plan.read(), make_explanation(out_of_distribution=None)
    flair = case.volumes["flair"]
    limit = float(np.quantile(flair.voxels[0], 0.995))
    region = replace(
        explained.diagnosis.regions["tumour"],
        mask=(flair.voxels[0] > limit).astype(np.uint8),
        affine_ras=flair.affine_ras,
    )
    explained = replace(
        explained, case=case, tasks={}, diagnosis=replace(explained.diagnosis, regions={"tumour": region})
    )

    saved = explained.report().save(tmp_path, formats=["seg"], sources=plan.series)

    marked = hd.seg.segread(saved.dicom["seg_flair.dcm"])
    pixels = {dcmread(path).SOPInstanceUID: dcmread(path).pixel_array for path in plan.series["flair"].files}
    frames = marked.get_pixels_by_source_instance(list(pixels), combine_segments=True)
    for frame, source in zip(frames, pixels.values(), strict=True):
        assert ((frame > 0) == (source > limit)).all()
