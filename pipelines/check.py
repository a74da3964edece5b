"""A dry run over one case: what is there, and would it be refused. No model."""

from dataclasses import dataclass

from medmm.cases import CasePlan
from medmm.types import Note
from pipelines.case_output import INFORMATIVE
from pipelines.engine import Refused, attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found for a case; `code` is empty where it can be read. Texts hold no identifier."""

    sequences: str
    report: str
    record: str
    finding: str
    code: str = ""


def check_case(plan: CasePlan, *, decode: bool) -> Checked:
    """Return what a case holds, with its pixels decoded where asked for."""
    notes, refused, report = plan.notes, _known_problem(plan), "yes" if plan.report is not None else "-"
    if decode and refused is None:
        case = attempt("read", plan.read)
        if isinstance(case, Refused):
            refused = case
        else:
            notes, report = case.all_notes(), case.report.origin if case.report is not None else "-"
    return Checked(
        sequences=", ".join(plan.series) or "-",
        report=report,
        record=", ".join(plan.record.values) if plan.record is not None and plan.record.values else "-",
        finding=f"refused: {refused.reason} ({refused.code})" if refused is not None else _summary(notes),
        code=refused.code if refused is not None else "",
    )


def _known_problem(plan: CasePlan) -> Refused | None:
    if plan.problem is None:
        return None
    return Refused(stage="read", code=plan.problem.code, reason=plan.problem.message, remedy=plan.problem.remedy)


def _summary(notes: tuple[Note, ...]) -> str:
    sentences = [f"{note.message} ({note.code})" for note in notes if note.code not in INFORMATIVE]
    return "ok" if not sentences else "ok, but: " + " ".join(sentences)
