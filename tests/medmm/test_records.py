"""Tables: ids stay text, numbers become numbers, what is impossible is dropped, what is ambiguous is refused."""

from pathlib import Path

import pytest

from medmm.errors import InputError, UsageError
from medmm.records import read_table, record_of


def _table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "records.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.bad_input("E11")
def test_ids_stay_text(tmp_path: Path) -> None:
    table = read_table(_table(tmp_path, "patient_id,age\n007,40\n7,50\n1e3,60\n"))

    found = [table.find(study_uid="", patient_id=key) for key in ("007", "7", "1e3", "1000")]
    assert [row.cells["age"] if row else None for row in found] == ["40", "50", "60", None]


@pytest.mark.parametrize("header", ["patient_id", "Patient ID", "PatientID", "patient", "case", "ID"])
def test_a_patient_column_is_known_by_its_usual_names(tmp_path: Path, header: str) -> None:
    table = read_table(_table(tmp_path, f"{header},age\nA,40\n"))

    assert table.find(study_uid="1.2", patient_id="A") is not None


def test_a_study_column_wins_over_a_patient_column(tmp_path: Path) -> None:
    table = read_table(_table(tmp_path, "patient_id,study_uid,age\nA,1.2,40\nA,1.3,41\n"))

    row = table.find(study_uid="1.3", patient_id="A")
    assert row is not None
    assert row.cells["age"] == "41"
    assert not row.by_patient


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_usual_delimiters_and_a_byte_order_mark_are_read(tmp_path: Path, delimiter: str) -> None:
    text = f"patient_id{delimiter}sex\nA{delimiter}F\n"

    table = read_table(_table(tmp_path, text, "utf-8-sig"))

    assert table.columns == ("sex",)


@pytest.mark.bad_input("E11")
def test_quotes_may_hold_line_breaks(tmp_path: Path) -> None:
    table = read_table(_table(tmp_path, 'patient_id,report\nA,"one\ntwo, ""three"""\n'), needs=("report",))

    row = table.find(study_uid="", patient_id="A")
    assert row is not None
    assert row.cells["report"] == 'one\ntwo, "three"'


@pytest.mark.bad_input("E6")
def test_rows_that_disagree_are_refused_and_rows_that_agree_are_one(tmp_path: Path) -> None:
    table = read_table(_table(tmp_path, "patient_id,age\nA,40\nA,41\nB,50\nB,50\n"))

    with pytest.raises(InputError, match="disagree") as caught:
        table.find(study_uid="", patient_id="A")
    assert caught.value.code == "identity.conflict"
    assert table.find(study_uid="", patient_id="B") is not None


@pytest.mark.bad_input("E11")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age,sex\n40,F\n", "key column"),
        ("", "key column"),
        ("patient_id,age\nA,40\n", "report"),
        ("patient_id,report,Report\nA,x,y\n", "once"),
        ('patient_id,report\nA,"open\n', "well-formed"),
    ],
)
def test_a_table_that_cannot_be_used_is_wrong_usage(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_table(_table(tmp_path, text), needs=("report",))

    assert caught.value.code == "config.table"


def test_a_table_in_another_encoding_or_that_is_missing_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        read_table(_table(tmp_path, "patient_id,name\nA,Jörg\n", "cp1252"))
    with pytest.raises(UsageError, match="cannot be opened"):
        read_table(tmp_path / "none.csv")


def test_cells_become_numbers_text_or_nothing() -> None:
    row = {"age": "63", "Gender": "female", "marker": "0,7", "site": "A-1", "score": "NA", "name": "Doe"}

    record = record_of(row, row)

    assert record.values == {"age_years": 63.0, "sex": "F", "marker": 0.7, "site": "A-1"}
    assert record.notes == ()


@pytest.mark.bad_input("D8")
@pytest.mark.parametrize("cell", ["-1", "140", "nan", "inf", "old", "1e999"])
def test_impossible_ages_are_left_out_with_a_note(cell: str) -> None:
    record = record_of({"age_years": cell}, ["age_years"])

    assert "age_years" not in record.values
    assert cell == "nan" or [note.code for note in record.notes] == ["record.value"]


@pytest.mark.bad_input("E11")
def test_a_large_table_is_read_whole(tmp_path: Path) -> None:
    rows = "".join(f"P{number:07d},{number % 90}\n" for number in range(200_000))

    table = read_table(_table(tmp_path, "patient_id,age\n" + rows))

    assert len(table.rows) == 200_000
