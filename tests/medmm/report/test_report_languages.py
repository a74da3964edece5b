"""Other languages: every sentence of ours has a translation, and a page in Chinese shows none in English."""

import ast
import html
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from report_examples import REPORT, make_explanation

import medmm
import pipelines
from medmm.errors import CODES
from medmm.report.cohort import write_index
from medmm.report.html import render_case
from medmm.report.texts import load_texts
from medmm.results import Counterfactual, Explanation, RemovedPart, SentenceAttribution
from medmm.types import Note
from medmm.uncertainty import decide

FOLDERS = tuple(Path(str(package.__file__)).parent for package in (medmm, pipelines))
# What stands in a sentence where it is not a number or a name of the data.
STAND_INS = {"unit": "characters"}
# Functions of `medmm.diagnose` that say why a task has no answer.
REASONS = ("_answer", "_decide", "_no_ground")
ENGLISH = re.compile(r"[A-Za-z][a-z]+(?:[ ,;:]+[a-z]{2,}){2,}")


def _texts_of(node: ast.expr, scope: ast.AST) -> list[str]:
    """Every text that an expression can be, names of the data standing in for what is not known before it runs."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.IfExp):
        return [*_texts_of(node.body, scope), *_texts_of(node.orelse, scope)]
    if isinstance(node, ast.JoinedStr):
        parts = [_texts_of(part, scope) for part in node.values]
        return ["".join(chosen) for chosen in product(*parts)]
    if isinstance(node, ast.FormattedValue):
        known = _texts_of(node.value, scope) if isinstance(node.value, ast.Name) else []
        return known or [STAND_INS.get(ast.unparse(node.value), "FLAIR")]
    if isinstance(node, ast.Name):
        assigned = (part for part in ast.walk(scope) if isinstance(part, ast.Assign))
        values = [part.value for part in assigned if ast.unparse(part.targets[0]) == node.id]
        return [text for value in values for text in _texts_of(value, scope)]
    return []


def _functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if any(called in text for called in ("Note(", "ExplanationCheck(")):
            yield from ((path, node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))


@cache
def _sentences_of_the_code() -> frozenset[str]:
    """What is said in notes, in tests of explanations and as reasons for no answer, with stand-ins filled in."""
    found: set[str] = set()
    docstrings: set[str | None] = set()
    for path, function in _functions():
        docstrings.add(ast.get_docstring(function))
        for node in ast.walk(function):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and called == "Note" and len(node.args) == 2:
                found.update(_texts_of(node.args[1], function))
            if isinstance(node, ast.Call) and called == "ExplanationCheck":
                said = next(part.value for part in node.keywords if part.arg == "sentence")
                found.update(_texts_of(said, function))
            if (
                path.name == "diagnose.py"
                and function.name in REASONS
                and isinstance(node, ast.Constant | ast.JoinedStr)
            ):
                found.update(text for text in _texts_of(node, function) if text.endswith(".") and " " in text)
    return frozenset(text for text in found if text.strip(" .") and text not in docstrings and text[0] != " ")


def test_every_sentence_of_the_code_is_translated() -> None:
    texts, sentences = load_texts("zh"), _sentences_of_the_code()

    missing = [sentence for sentence in sorted(sentences) if texts.said(sentence).original]

    assert len(sentences) > 55
    assert missing == []


def test_every_code_is_translated() -> None:
    texts = load_texts("zh")

    assert [code for code, meaning in CODES.items() if texts.said(meaning).original] == []


def test_reason_of_a_wide_prediction_set_is_translated() -> None:
    said = decide(["a", "b", "c"], ["A", "B", "C"], np.array([0.4, 0.3, 0.3]), 0.9, 0.9).reason

    assert load_texts("zh").told(said) == "在 90% 覆盖率下，A, B 与 C 无法区分。"


def test_a_sentence_without_translation_is_told_by_its_code_with_the_original_beside_it() -> None:
    said = load_texts("zh").said("Something new.", "series.gap")

    assert (said.text, said.original) == ("切片缺失或间距不均匀。", "Something new.")


def test_english_stays_as_it_is() -> None:
    assert load_texts("en").told("The volume has one slice.") == "The volume has one slice."


def _explained() -> Explanation:
    """A case with everything that a page can say: real tests, reasons and notes, sentences, counterfactuals."""
    explained = make_explanation()
    sentences = tuple(
        SentenceAttribution(start=start, end=end, text=REPORT[start:end], value=value)
        for start, end, value in ((0, 56, 0.4), (57, 75, -0.1))
    )
    found = tuple(
        Counterfactual(
            kind=kind,  # type: ignore[arg-type]  # one of the two literals below
            removed=removed, answer="left", probability=0.6, is_smallest=bool(removed), n_candidates=2,
            n_asked=4, budget=80,
        )
        for kind, removed in (
            ("sentences", (RemovedPart(text=REPORT[:56], start=0, end=56),)),
            ("concepts", (RemovedPart(text="Mass", concept="X:9"),)),
            ("concepts", ()),
        )
    )  # fmt: skip
    checks = tuple(
        replace(explained.tasks["side"].checks[0], name=name, sentence=sentence, is_passed=False)
        for name, sentence in (("volume deletion", _sentence("While", "taken")), ("repeatability", _sentence("With a")))
    )
    why = replace(
        explained.tasks["side"], sentences=sentences, counterfactuals=found, checks=checks,
        text_method="gradient x input",
    )  # fmt: skip
    grade = replace(
        explained.diagnosis.tasks["grade"], abstain_reason="At 90% coverage Low and High cannot be told apart."
    )
    notes = tuple(Note("image.constant", sentence) for sentence in sorted(_sentences_of_the_code()))
    return replace(
        explained,
        tasks={"side": why, "grade": replace(explained.tasks["grade"], checks=checks)},
        diagnosis=replace(explained.diagnosis, tasks={**explained.diagnosis.tasks, "grade": grade}, notes=notes),
        notes=(),
    )


def _sentence(start: str, part: str = "") -> str:
    return next(text for text in sorted(_sentences_of_the_code()) if text.startswith(start) and part in text)


def _english_in(page: str) -> list[str]:
    """Runs of English words that a reader sees; what the model, the report or the log says is marked as theirs."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    body = re.sub(r"<dl[^>]*verbatim.*?</dl>", " ", body, flags=re.DOTALL)
    body = re.sub(r"<(\w+)[^>]*(?:lang=\"en\"|verbatim)[^>]*>.*?</\1>", " ", body, flags=re.DOTALL)
    attributes = " | ".join(re.findall(r"(?:alt|aria-label|title|data-\w+)=\"([^\"]*)\"", body))
    return ENGLISH.findall(html.unescape(re.sub(r"<[^>]+>", " | ", body) + attributes))


@pytest.mark.parametrize("has_text", [False, True])
def test_a_page_in_chinese_shows_no_english_sentence_of_ours(has_text: bool) -> None:
    report = _explained().report()

    page = render_case(report, lang="zh", include_report_text=has_text)

    assert "概率平均为" in page
    assert "第 1 句" in page
    assert _english_in(page) == []


def test_english_on_a_page_would_be_found() -> None:
    assert _english_in("<p>There is no translation of this.</p>") != []
    assert _english_in('<a title="values on this page">页</a>') != []


def test_a_draft_in_chinese_holds_no_english_sentence() -> None:
    assert ENGLISH.findall(_explained().report().draft_text(lang="zh")) == []


def test_a_cohort_in_chinese_shows_english_only_as_the_log_had_it(tmp_path: Path) -> None:
    rows = [{"case": "case-1", "status": "refused", "codes": "series.gap"}]
    failure = {"case": "case-1", "stage": "read", "code": "series.gap", "reason": "Expected even spacing."}

    page = write_index(tmp_path, rows, {"seed": 0}, failures=[failure], lang="zh").read_text(encoding="utf-8")

    assert '切片缺失或间距不均匀。 <span class="soft" lang="en">Expected even spacing.</span>' in page
    assert _english_in(page) == []
