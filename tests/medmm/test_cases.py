"""Cases: which series, report and record belong together, and what happens where that cannot be told."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

import medmm
from medmm.cases import CasePlan, find_cases
from medmm.errors import InputError, UsageError
from medmm.synthetic import write_cohort

KEY = bytes(32)
TEXT = "FINDINGS:\nRing enhancement.\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantom patients; in this seed the first, third and fifth have T1, FLAIR, T1ce and a report by patient id."""
    root = tmp_path_factory.mktemp("cases")
    write_cohort(root, n_cases=6, seed=0)
    return root


@pytest.fixture
def study(source: Path, tmp_path: Path) -> Path:
    """One study of its own in `studies/PHANTOM-0000`."""
    folder = tmp_path / "studies"
    shutil.copytree(source / "studies" / "PHANTOM-0000", folder / "PHANTOM-0000")
    return folder


def _edit(folder: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)


def _only(folder: Path, **options: object) -> CasePlan:
    plans = find_cases(folder, id_key=KEY, **options).plans  # type: ignore[arg-type]  # options of the tests
    assert len(plans) == 1
    return plans[0]


def _second_study(studies: Path, patient: str = "PHANTOM-0000") -> None:
    """A second study beside the first: another UID, the patient id given."""
    other = studies / "second"
    shutil.copytree(studies / "PHANTOM-0000", other)

    def change(dataset: pydicom.Dataset) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, generate_uid(entropy_srcs=["second", str(getattr(dataset, name))]))
        dataset.PatientID = patient

    _edit(other, change)


def test_a_study_becomes_a_case_with_volumes_report_and_record(source: Path) -> None:
    tables = {"reports": source / "reports", "records": source / "records.csv"}

    cases = list(medmm.read_cases(source / "studies", **tables, roles=("flair",)))

    assert len(cases) == 6
    assert all(set(case.volumes) == {"flair"} for case in cases)
    assert sum(case.report is not None for case in cases) == len(list((source / "reports").iterdir())) + 1  # and one SR
    assert all(case.record is not None and case.record.values["sex"] in ("F", "M") for case in cases)
    assert all(len(case.input_hashes["flair"]) == 64 for case in cases)


@pytest.mark.bad_input("I1")
def test_nothing_in_a_case_names_the_patient(source: Path) -> None:
    for case in medmm.read_cases(source / "studies", reports=source / "reports", records=source / "records.csv"):
        assert "PHANTOM" not in repr(case).upper().replace("PHANTOM_HEAD", "")
        assert str(source) not in repr(case)


def test_input_hashes_do_not_depend_on_file_names(study: Path) -> None:
    before = _only(study).read().input_hashes
    for number, path in enumerate(sorted(path for path in study.rglob("*") if path.is_file())):
        path.rename(path.with_name(f"renamed-{(number * 7) % 60:03d}"))

    assert _only(study).read().input_hashes == before


def test_the_same_key_gives_the_same_ids_in_any_folder(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "studies", tmp_path / "elsewhere" / "deep")

    one = [plan.case_id for plan in find_cases(source / "studies", id_key=KEY).plans]
    other = [plan.case_id for plan in find_cases(tmp_path / "elsewhere", id_key=KEY).plans]

    assert one == other


def test_a_report_is_found_by_patient_by_study_in_a_table_and_beside_the_images(study: Path, tmp_path: Path) -> None:
    uid = _only(study).study.study_uid  # type: ignore[union-attr]  # a study that was read
    for name in ("PHANTOM-0000", uid):
        reports = tmp_path / f"reports-{name[:7]}"
        reports.mkdir()
        (reports / f"{name}.txt").write_text(TEXT)
        assert _only(study, reports=reports).read().report is not None
    table = tmp_path / "reports.csv"
    table.write_text(f'study_uid,report\n{uid},"{TEXT}"\n')
    report = _only(study, reports=table).read().report
    assert report is not None
    assert report.origin == "table"
    (study / "PHANTOM-0000" / "Report.TXT").write_text(TEXT)
    assert _only(study).read().report is not None


@pytest.mark.bad_input("E7")
def test_of_several_reports_the_given_one_is_used_and_the_others_noted(study: Path, tmp_path: Path) -> None:
    (study / "PHANTOM-0000" / "report.txt").write_text("FINDINGS:\nBeside the images.\n")
    (tmp_path / "PHANTOM-0000.txt").write_text(TEXT)
    reports = tmp_path / "reports"
    reports.mkdir()
    shutil.move(tmp_path / "PHANTOM-0000.txt", reports)

    case = _only(study, reports=reports).read()

    assert case.report is not None
    assert case.report.text == TEXT
    assert "report.choice" in {note.code for note in case.notes}


def test_a_report_beside_several_studies_belongs_to_none(study: Path) -> None:
    _second_study(study)
    (study / "report.txt").write_text(TEXT)

    assert [plan.report for plan in find_cases(study, id_key=KEY).plans] == [None, None]


@pytest.mark.bad_input("E6")
def test_a_report_named_by_a_patient_with_two_studies_is_refused(study: Path, tmp_path: Path) -> None:
    _second_study(study)
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "PHANTOM-0000.txt").write_text(TEXT)

    codes = [plan.problem.code for plan in find_cases(study, reports=reports, id_key=KEY).plans if plan.problem]

    assert codes == ["identity.conflict", "identity.conflict"]


@pytest.mark.bad_input("E6")
def test_a_report_that_names_another_patient_is_refused(study: Path, tmp_path: Path) -> None:
    _second_study(study, patient="OTHER")
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "PHANTOM-0000.txt").write_text("PATIENT: OTHER  AGE: 70\n" + TEXT)
    plans = find_cases(study, reports=reports, id_key=KEY).plans

    plan = next(plan for plan in plans if plan.report is not None)

    with pytest.raises(InputError, match="another patient") as caught:
        plan.read()
    assert caught.value.code == "identity.conflict"
    assert "OTHER" not in str(caught.value)


@pytest.mark.bad_input("E6")
def test_reports_that_disagree_in_a_table_refuse_their_case_only(study: Path, tmp_path: Path) -> None:
    _second_study(study, patient="OTHER")
    table = tmp_path / "reports.csv"
    table.write_text("patient_id,report\nPHANTOM-0000,One thing.\nPHANTOM-0000,Another.\nOTHER,Fine.\n")

    plans = find_cases(study, reports=table, id_key=KEY).plans

    problems = [plan.problem.code if plan.problem else "" for plan in plans]
    assert sorted(problems) == ["", "identity.conflict"]


@pytest.mark.bad_input("E1")
def test_an_empty_report_counts_as_missing(study: Path) -> None:
    (study / "PHANTOM-0000" / "report.txt").write_text("See previous report.")

    case = _only(study).read()

    assert case.report is None
    assert "report.empty" in {note.code for note in case.notes}


def test_reports_of_nobody_here_are_counted(study: Path, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "STRANGER.txt").write_text(TEXT)

    assert find_cases(study, reports=reports, id_key=KEY).unmatched_reports == 1


def test_two_files_of_one_name_are_refused(study: Path, tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / "reports" / part).mkdir(parents=True)
        (tmp_path / "reports" / part / "PHANTOM-0000.txt").write_text(TEXT + part)

    problem = _only(study, reports=tmp_path / "reports").problem

    assert problem is not None
    assert problem.code == "identity.conflict"


def test_age_and_sex_come_from_dicom_where_no_table_has_them(study: Path) -> None:
    case = _only(study).read()

    assert case.record is not None
    assert set(case.record.values) == {"age_years", "sex"}
    assert {note.code for note in case.record.notes} == {"record.source"}


def test_a_table_that_contradicts_dicom_is_used_with_a_note(study: Path, tmp_path: Path) -> None:
    table = tmp_path / "records.csv"
    table.write_text("patient_id,age_years,sex\nPHANTOM-0000,20,F\n")

    record = _only(study, records=table).read().record

    assert record is not None
    assert record.values == {"age_years": 20.0, "sex": "F"}
    assert {note.code for note in record.notes} == {"identity.conflict"}


def test_a_study_of_unknown_series_says_so(study: Path) -> None:
    def disguise(dataset: pydicom.Dataset) -> None:
        dataset.SeriesDescription = "X"
        for name in ("EchoTime", "RepetitionTime", "InversionTime"):
            if name in dataset:
                delattr(dataset, name)

    _edit(study, disguise)

    plan = _only(study)

    assert plan.series == {}
    assert "series.none" in {note.code for note in plan.notes}


def test_only_wanted_fields_are_kept(study: Path, tmp_path: Path) -> None:
    table = tmp_path / "records.csv"
    table.write_text("patient_id,age_years,marker,postcode\nPHANTOM-0000,64,0.5,12345\n")

    record = _only(study, records=table, record_fields=("marker",)).read().record

    assert record is not None
    assert record.values == {"marker": 0.5}


@pytest.mark.bad_input("D3")
def test_studies_without_patient_id_stay_apart(study: Path) -> None:
    _second_study(study, patient="")
    _edit(study / "PHANTOM-0000", lambda dataset: setattr(dataset, "PatientID", ""))

    assert len({plan.case_id for plan in find_cases(study, id_key=KEY).plans}) == 2


@pytest.mark.bad_input("D2")
def test_one_patient_id_with_two_birth_dates_is_refused(study: Path) -> None:
    _second_study(study)
    _edit(study / "PHANTOM-0000", lambda dataset: setattr(dataset, "PatientBirthDate", "19600101"))
    _edit(study / "second", lambda dataset: setattr(dataset, "PatientBirthDate", "19700101"))

    refused: list[str] = []

    cases = list(medmm.read_cases(study, on_refused=lambda case_id, error: refused.append(error.code)))

    assert cases == []
    assert refused == ["identity.conflict", "identity.conflict"]


def test_a_truncated_file_refuses_its_case_and_no_other(study: Path) -> None:
    _second_study(study, patient="OTHER")
    broken = sorted((study / "PHANTOM-0000" / "series_flair").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:700])

    refused, read = [], []
    for plan in find_cases(study, id_key=KEY).plans:
        try:
            read.append(plan.read())
        except InputError as error:
            refused.append(error.code)

    assert refused == ["dicom.truncated"]
    assert len(read) == 1


def test_a_folder_of_nothing_but_broken_files_is_one_refused_case(study: Path) -> None:
    for path in (study / "PHANTOM-0000").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:300])

    plans = find_cases(study, id_key=KEY).plans

    assert plans
    assert all(plan.problem is not None and plan.problem.code.startswith("dicom.") for plan in plans)
    assert all(name.startswith("file-") for plan in plans for name in plan.broken_files)


def test_a_refused_case_does_not_end_the_iteration(study: Path) -> None:
    _second_study(study, patient="OTHER")
    next((study / "PHANTOM-0000" / "series_flair").iterdir()).unlink()
    for path in sorted((study / "PHANTOM-0000" / "series_flair").iterdir())[3:9]:
        path.unlink()
    refused: list[str] = []

    cases = list(medmm.read_cases(study, on_refused=lambda case_id, error: refused.append(error.code)))

    assert len(cases) == 1
    assert refused == ["series.gap"]


@pytest.mark.bad_input("H10")
def test_a_file_that_vanishes_after_discovery_refuses_the_case(study: Path) -> None:
    plan = _only(study)
    next((study / "PHANTOM-0000" / "series_flair").iterdir()).unlink()

    with pytest.raises(InputError, match="vanished") as caught:
        plan.read()
    assert caught.value.code == "io.changed"


@pytest.mark.parametrize("option", ["reports", "records"])
def test_missing_tables_are_wrong_usage(study: Path, tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_cases(study, id_key=KEY, **{option: tmp_path / "none"})  # type: ignore[arg-type]  # by name

    assert caught.value.code == "config.table"
