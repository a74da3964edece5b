"""Manifests: what a row says, and what is refused before anything is read."""

from pathlib import Path

import pytest

from medmm.errors import InputError, UsageError
from medmm.synthetic import Cohort
from pipelines.manifest import read_manifest


def _manifest(folder: Path, text: str) -> Path:
    path = folder / "cases.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_is_read_with_paths_relative_to_the_file(tmp_path: Path) -> None:
    text = (
        "case,patient,volumes,report,split,record.age_years,label.grade,mask\n"
        "a1,A,flair=x/flair;t1=x/t1.nii.gz,r/a.txt,train,61,G3,m/a.nii.gz\n"
    )

    (row,) = read_manifest(_manifest(tmp_path, text)).rows

    assert (row.case, row.patient, row.split) == ("a1", "A", "train")
    assert row.volumes == {"flair": tmp_path / "x/flair", "t1": tmp_path / "x/t1.nii.gz"}
    assert (row.report, row.mask) == (tmp_path / "r/a.txt", tmp_path / "m/a.nii.gz")
    assert (row.record, row.labels) == ({"age_years": "61"}, {"grade": "G3"})


def test_a_path_without_role_and_a_missing_patient_have_their_defaults(tmp_path: Path) -> None:
    (row,) = read_manifest(_manifest(tmp_path, "case,volumes\na1,scan.png\n")).rows

    assert row.volumes == {"volume": tmp_path / "scan.png"}
    assert row.patient == "a1"


def test_a_case_is_read_from_a_folder_and_a_text(cohort: Cohort, tmp_path: Path) -> None:
    series = cohort.studies / "PHANTOM-0000" / "series_flair"
    text = f'case,volumes,report_text,record.age_years,record.sex\n007,flair={series},"FINDINGS:\nA mass.",61,F\n'

    case = read_manifest(_manifest(tmp_path, text)).rows[0].read()

    assert case.case_id == "007"
    assert case.volumes["flair"].shape == (96, 96, 20)
    assert case.report is not None
    assert case.record is not None
    assert case.record.values == {"age_years": 61.0, "sex": "F"}
    assert set(case.input_hashes) == {"flair", "record", "report"}


def test_a_file_that_is_not_there_refuses_its_case(tmp_path: Path) -> None:
    row = read_manifest(_manifest(tmp_path, "case,volumes\na1,flair=none.nii.gz\n")).rows[0]

    with pytest.raises(InputError):
        row.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a column"),
        ("case\na\n", "needs a column"),
        ("volumes\nx\n", "needs a column"),
        ("case,volumes,grade\na,x,G2\n", "unknown column 'grade'"),
        ("case,volumes,volumes\na,x,y\n", "twice"),
        ("case,volumes\na,x\na,y\n", "a case is there twice"),
        ("case,volumes\n,x\n", "line 2 has no case"),
        ("case,volumes\na,flair=x;flair=y\n", "line 2: the role 'flair' is there twice"),
        ("case,volumes\na,flair=\n", "line 2: expected role=path"),
        ("case,patient,volumes,split\na,P,x,train\nb,P,y,test\n", "a patient is in two splits"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_manifest(_manifest(tmp_path, text))

    assert caught.value.code == "config.table"


def test_splits_and_labels_are_asked_for_by_name(tmp_path: Path) -> None:
    text = "case,volumes,split,label.grade\na,x,train,G2\nb,y,test,G3\nc,z,test,\n"
    manifest = read_manifest(_manifest(tmp_path, text))

    assert [row.case for row in manifest.of_split("test")] == ["b", "c"]
    assert manifest.labels_of("grade") == {"a": "G2", "b": "G3"}
    with pytest.raises(UsageError, match="test, train"):
        manifest.of_split("validation")
