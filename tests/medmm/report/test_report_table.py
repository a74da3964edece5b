"""Rows of results.csv, cells that are no formulas, and the cohort page."""

from pathlib import Path

import pytest
from report_examples import make_explanation

from medmm.report import csv_cell, refused_row, result_row, write_index
from medmm.types import Titles


@pytest.mark.bad_input("D5")
@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx"])
def test_text_that_could_be_a_formula_gets_a_quote(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.bad_input("D5")
def test_numbers_and_plain_text_stay_as_they_are() -> None:
    assert [csv_cell(cell) for cell in (-1.5, 3, "grade-2", "", None, True, "a\udc80")] == [
        "-1.5",
        "3",
        "grade-2",
        "",
        "",
        "true",
        "a?",
    ]


def test_row_names_answers_sets_and_provenance() -> None:
    row = result_row(make_explanation().diagnosis)

    assert row["case"] == "case-1"
    assert row["status"] == "warn"
    assert (row["side"], row["side.probability"], row["side.set"]) == ("right", 0.97, "right")
    assert (row["grade.abstained"], row["grade.set"], row["grade.p.high"]) == ("true", "low|high", 0.48)
    assert row["tumour.ml"] == 0.288
    assert row["outside_training"] == "false"
    assert row["weights_sha256"] == "a" * 64
    assert row["codes"] == "image.lossy"


def test_row_without_notes_is_ok() -> None:
    assert result_row(make_explanation(notes=()).diagnosis)["status"] == "ok"


def test_index_links_diagnosed_cases_and_lists_refused_ones(tmp_path: Path) -> None:
    rows = [result_row(make_explanation().diagnosis), refused_row("case-2", "series.gap")]
    failures = [
        {"case": "case-2", "stage": "read", "code": "series.gap", "reason": "A slice is missing.", "remedy": ""}
    ]

    path = write_index(tmp_path, rows, {"seed": 3, "versions": {"medmm": "0.1.0"}}, failures=failures)

    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "index.html"
    assert 'href="cases/case-1/report.html"' in page
    assert "cases/case-2/" not in page
    assert "A slice is missing." in page
    assert "2 cases: 1 diagnosed, 1 of them with notes, 1 refused." in page
    assert "versions.medmm" in page


def test_link_of_a_strange_case_id_stays_in_the_folder(tmp_path: Path) -> None:
    row = {"case": "../../x?y#z", "status": "ok"}

    page = write_index(tmp_path, [row], {}).read_text(encoding="utf-8")

    assert 'href="cases/..%2F..%2Fx%3Fy%23z/report.html"' in page


def test_abstentions_are_counted_apart_from_answers(tmp_path: Path) -> None:
    rows = [result_row(make_explanation().diagnosis)] * 2

    page = write_index(tmp_path, rows, {}).read_text(encoding="utf-8")

    grade = page[page.index("<h3>grade</h3>") :]
    assert "abstained" in grade[: grade.index("</table>")]


def test_index_shows_the_titles_of_questions_and_answers(tmp_path: Path) -> None:
    row: dict[str, str | float] = {
        "case": "case-1", "status": "ok", "coc2": "no", "coc2.probability": 0.9, "coc2.set": "no|yes",
        "side": "lower_left", "side.probability": 1.0, "side.set": "lower_left",
    }  # fmt: skip
    titles: Titles = {
        "coc2": {"title": "Tissue <b>cluster</b> 2", "classes": {"no": "Another cluster", "yes": "In it"}}
    }

    page = write_index(tmp_path, [row], {}, titles=titles).read_text(encoding="utf-8")

    assert page.count("Tissue &lt;b&gt;cluster&lt;/b&gt; 2") == 2  # the column, and how often each answer was given
    assert "<strong>Another cluster</strong>" in page
    assert "Another cluster, In it" in page
    assert "coc2" not in page
    assert "<strong>lower left</strong>" in page  # without a title, its name


def test_empty_run_has_a_page(tmp_path: Path) -> None:
    assert "No case was diagnosed." in write_index(tmp_path, [], {}).read_text(encoding="utf-8")


def test_page_of_a_huge_cohort_lists_what_needs_attention_and_counts_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medmm.report.cohort.PAGE_CASES", 3)
    rows = [{"case": f"case-{number}", "status": "refused" if number == 9 else "ok"} for number in range(10)]

    page = write_index(tmp_path, rows, {}).read_text(encoding="utf-8")

    assert [number for number in range(10) if f"case-{number}" in page] == [0, 1, 9]
    assert "10 cases" in page
    assert "3 of 10; all are in results.csv" in page


def test_index_speaks_chinese(tmp_path: Path) -> None:
    assert '<html lang="zh">' in write_index(tmp_path, [], {}, lang="zh").read_text(encoding="utf-8")
