"""Reports that give the answer away: found by whole words, covered without moving anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmm.report_leak import cover_answers, find_answers, note_leak
from medmm.types import Report

ANSWERS = ("glioblastoma", "multiple_sclerosis", "Grade 2")


@pytest.mark.bad_input("E9")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Findings in keeping with Glioblastoma.", ["Glioblastoma"]),
        ("No glioblastomas; multiple\n sclerosis?", ["glioblastomas", "multiple\n sclerosis"]),
        ("grade-2 lesion", ["grade-2"]),
        ("Ring enhancing lesion, upgrade 2, grade 21.", []),
    ],
)
def test_an_answer_is_found_as_whole_words_in_any_spelling(text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in find_answers(text, ANSWERS)] == found


@pytest.mark.bad_input("E9")
def test_covered_words_are_gone_and_nothing_moves() -> None:
    report = Report(text="Known glioblastoma, left. Multiple sclerosis.")

    covered = cover_answers(report, ANSWERS)

    assert covered.text == "Known ____________, left. ________ _________."
    assert [note.code for note in covered.notes] == ["report.label_leak"]


@pytest.mark.bad_input("E9")
def test_a_report_that_gives_nothing_away_is_left_as_it_is() -> None:
    report = Report(text="A ring in the left frontal lobe.")

    assert note_leak(report, ANSWERS) is report
    assert cover_answers(report, ANSWERS) == report


@given(text=st.text(), answers=st.lists(st.text(max_size=12), max_size=4))
def test_covering_holds_for_any_text_and_any_names(text: str, answers: list[str]) -> None:
    covered = cover_answers(Report(text=text), answers).text

    assert len(covered) == len(text)
    assert find_answers(covered, [name for name in answers if "_" not in name]) == ()
