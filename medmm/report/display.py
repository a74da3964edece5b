"""How a diagnosis and an explanation show themselves in a terminal (rich) and in a notebook (HTML)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmm.report.compose import task_part
from medmm.report.pages import render_fragment
from medmm.report.svg import bar_width
from medmm.report.texts import load_texts
from medmm.report.words import answer_titles, certainty, covers, title_of

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from medmm.results import Diagnosis, Explanation


def diagnosis_table(diagnosis: "Diagnosis") -> "Table":
    """A table of questions and answers for a terminal."""
    from rich.table import Table
    from rich.text import Text

    texts = load_texts("en")
    table = Table(title=Text(diagnosis.case_id), caption=Text(texts("banner.disclaimer")))
    for heading in ("question", "answer", "probability", "prediction_set"):
        table.add_column(texts(f"table.{heading}"))
    for row in _rows(diagnosis):
        cells = (row.question, row.answer, f"{row.probability:.2f}, {row.certainty}", row.prediction_set)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def explanation_group(explanation: "Explanation") -> "Group":
    """The table of answers and what they rest on, for a terminal; no word of the report."""
    from rich.console import Group
    from rich.text import Text

    basis = (Text(f"- {sentence}") for sentence in _basis(explanation))
    return Group(diagnosis_table(explanation.diagnosis), *basis)


def diagnosis_html(diagnosis: "Diagnosis", basis: tuple[str, ...] = ()) -> str:
    """The table of answers for a notebook, `basis` as a list below it; every text is escaped."""
    return render_fragment(
        "display.html.j2", t=load_texts("en"), case=diagnosis.case_id, rows=_rows(diagnosis), basis=basis
    )


def explanation_html(explanation: "Explanation") -> str:
    """The table of answers and what they rest on, for a notebook; no word of the report."""
    return diagnosis_html(explanation.diagnosis, _basis(explanation))


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnswerRow:
    """An answer as both displays show it; `bar` is the length of a probability's bar."""

    question: str
    answer: str
    probability: float
    bar: float
    certainty: str
    prediction_set: str


def _rows(diagnosis: "Diagnosis") -> list[_AnswerRow]:
    texts, rows = load_texts("en"), []
    for result in diagnosis.tasks.values():
        task = task_part(result)
        leading = answer_titles(task, texts)
        rows.append(
            _AnswerRow(
                question=task.title,
                answer=f"{texts('summary.no_answer')} ({leading}?)" if task.abstained else leading,
                probability=task.confidence,
                bar=bar_width(task.confidence),
                certainty=texts(f"certainty.{certainty(task)}"),
                prediction_set=texts("draft.or").join(title_of(task, name) for name in task.prediction_set)
                if covers(task)
                else "",
            )
        )
    return rows


def _basis(explanation: "Explanation") -> tuple[str, ...]:
    return tuple(statement.text for statement in explanation.report().document().draft.basis)
