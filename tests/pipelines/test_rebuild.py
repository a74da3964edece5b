"""Other formats of a batch, and reports written again from its cases, as a user meets them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from rule_model import RuleModel

from medmm.errors import InputError, UsageError
from medmm.synthetic import Cohort, write_cohort
from pipelines.config import RunConfig
from pipelines.diagnose import Job, diagnose_folder
from pipelines.rebuild import Rebuild, case_files, rebuild_report


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two phantom patients."""
    return write_cohort(tmp_path_factory.mktemp("cohort"), n_cases=2, seed=0)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of case ids."""
    path = tmp_path_factory.mktemp("key") / "id_key"
    path.write_bytes(bytes(32))
    return path


@pytest.fixture(scope="module")
def run(cohort: Cohort, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that wrote DICOM results beside the others."""
    out = tmp_path_factory.mktemp("run") / "out"
    config = RunConfig(formats=("html", "json", "nii", "txt", "seg", "sr"))
    diagnose_folder(Job(folder=cohort.studies, output=out, config=config, id_key=key), RuleModel)
    return out


def _cases(run: Path) -> list[Path]:
    return sorted((run / "cases").iterdir())


def test_batch_writes_dicom_results_of_the_right_patient(run: Path) -> None:
    with (run / "id_map.csv").open(newline="", encoding="utf-8") as stream:
        patients = {row["id"]: row["patient_id"] for row in csv.DictReader(stream)}

    for case in _cases(run):
        for name in ("seg_flair.dcm", "sr.dcm"):
            assert dcmread(case / "dicom" / name).PatientID == patients[case.name]


@pytest.mark.bad_input("I1")
def test_batch_keeps_identity_out_of_everything_else(run: Path) -> None:
    with (run / "id_map.csv").open(newline="", encoding="utf-8") as stream:
        patients = [row["patient_id"] for row in csv.DictReader(stream) if row["patient_id"]]

    for path in run.rglob("*"):
        if path.is_file() and path.suffix != ".dcm" and path.name != "id_map.csv":
            content = path.read_bytes()
            assert not [patient for patient in patients if patient.encode() in content], path.name


@pytest.mark.bad_input("I5")
def test_source_that_dicom_cannot_refer_to_costs_no_diagnosis(
    cohort: Cohort, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("A DICOM result cannot refer to this series: mosaic.", code="output.source")

    monkeypatch.setattr("medmm.report.dicom.write_dicom", refuse)
    config = RunConfig(formats=("json", "sr"), explain="none")

    summary = diagnose_folder(Job(folder=cohort.studies, output=tmp_path, config=config, id_key=key), RuleModel)

    assert summary.refused == 0
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as stream:
        assert all("output.source" in row["codes"] for row in csv.DictReader(stream))


def test_rebuilding_with_studies_gives_the_page_of_the_run(
    run: Path, cohort: Cohort, key: Path, tmp_path: Path
) -> None:
    case = _cases(run)[0]

    rebuild_report(case, Rebuild(formats=("html",), out=tmp_path, studies=cohort.studies, id_key=key))

    # Heatmaps are stored in steps of 0.001, so their pictures may differ by a level; nothing else may.
    pages = [(place / "report.html").read_text(encoding="utf-8") for place in (tmp_path, case)]
    bare = [re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", page) for page in pages]
    assert bare[0] == bare[1]
    assert len(pages[0]) == pytest.approx(len(pages[1]), rel=0.02)


def test_rebuilding_without_studies_needs_nothing_but_the_case(run: Path, tmp_path: Path) -> None:
    paths = rebuild_report(_cases(run)[0], Rebuild(formats=("html", "txt"), lang="zh", out=tmp_path))

    assert [path.name for path in paths.all()] == ["report.html", "draft.txt"]
    assert "<canvas" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_structured_report_can_be_written_later(run: Path, cohort: Cohort, key: Path, tmp_path: Path) -> None:
    case = _cases(run)[0]

    rebuild_report(case, Rebuild(formats=("sr",), out=tmp_path, studies=cohort.studies, id_key=key))

    old, new = dcmread(case / "dicom" / "sr.dcm"), dcmread(tmp_path / "dicom" / "sr.dcm")
    assert new.PatientID == old.PatientID
    assert new.SOPInstanceUID != old.SOPInstanceUID


@pytest.mark.bad_input("H10")
def test_images_of_another_key_or_content_are_refused(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    other = tmp_path / "other_key"
    other.write_bytes(bytes([1]) * 32)

    with pytest.raises(InputError, match="not among"):
        rebuild_report(_cases(run)[0], Rebuild(formats=("html",), out=tmp_path, studies=cohort.studies, id_key=other))


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Rebuild(formats=("sr",)), "--studies"),
        (Rebuild(formats=("nii",)), "already"),
        (Rebuild(formats=("docx",)), "docx"),
        (Rebuild(formats=("html",), lang="xx"), "xx"),
        (Rebuild(formats=("html",), include_report_text=True), "no report text"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(run: Path, job: Rebuild, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rebuild_report(_cases(run)[0], job)


@pytest.mark.bad_input("I5")
def test_results_are_never_written_among_the_images(run: Path, cohort: Cohort) -> None:
    job = Rebuild(formats=("sr",), studies=cohort.studies, out=cohort.studies / "results")

    with pytest.raises(UsageError, match="lie in one another"):
        rebuild_report(_cases(run)[0], job)


def test_a_run_names_all_of_its_cases(run: Path, tmp_path: Path) -> None:
    assert [file.parent for file in case_files([run])] == _cases(run)
    with pytest.raises(UsageError, match=r"case\.json"):
        case_files([tmp_path])


def test_command_writes_files_and_names_them(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "report", run, "--formats", "txt,json", "--out", tmp_path]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    for case in _cases(run):
        draft = (tmp_path / case.name / "draft.txt").read_text(encoding="utf-8")
        assert "IMPRESSION" in draft
        assert json.loads((tmp_path / case.name / "case.json").read_text(encoding="utf-8"))["case_id"] == case.name
    assert len(done.stdout.split()) == 2 * len(_cases(run))


def test_help_of_the_command_teaches() -> None:
    command = [sys.executable, "-m", "pipelines.cli", "report", "--help"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert "medmm report results/ --formats sr,seg --studies studies/" in done.stdout
