"""Displays in a terminal, in a notebook, and as a figure."""

import io

import pytest
from report_examples import REPORT, make_explanation
from rich.console import Console

from medmm.results import Explanation

HOSTILE = "<script>alert(1)</script>[bold red]"


def _printed(value: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(value)
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # the StringIO from above


def test_terminal_shows_answers_doubt_and_that_it_is_research(explanation: Explanation) -> None:
    shown = _printed(explanation.diagnosis)

    assert "Right side" in shown
    assert "0.97, very likely" in shown
    assert "No answer given (Low grade?)" in shown
    assert "Low grade, High grade" in shown
    assert "not a medical device" in shown


def test_explanation_adds_what_the_answers_rest_on(explanation: Explanation) -> None:
    for shown in (_printed(explanation), explanation._repr_html_()):
        assert "rests most on: Images" in shown
        assert "did not pass 1 of 2 tests" in shown


@pytest.mark.bad_input("D4")
def test_displays_take_text_as_text() -> None:
    hostile = make_explanation(lambda text: text + HOSTILE)

    assert HOSTILE in _printed(hostile.diagnosis).replace("\n", "")
    for page in (hostile._repr_html_(), hostile.diagnosis._repr_html_()):
        assert "<script" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.bad_input("I2")
def test_displays_hold_no_word_of_the_report(explanation: Explanation) -> None:
    assert "xylophone" in REPORT
    for shown in (_printed(explanation), explanation._repr_html_(), explanation.diagnosis._repr_html_()):
        assert "xylophone" not in shown


def test_figure_has_the_picture_the_classes_and_the_shares(explanation: Explanation) -> None:
    pytest.importorskip("matplotlib")

    picture, classes, shares = explanation.plot("side").axes

    assert len(picture.images) == 1
    assert [bar.get_width() for bar in classes.patches] == [0.03, 0.97]
    assert [bar.get_width() for bar in shares.patches] == [0.42, -0.05]
    assert [bar.get_hatch() or "" for bar in shares.patches] == ["", "///"]  # no meaning by colour alone
