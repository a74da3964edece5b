"""Whether a report names an answer that the model is asked for (a label leak), and covering such words.

A report that says "glioblastoma" answers the question itself: a model that reads it repeats the radiologist, and one
that is trained on it learns to. Denied and suspected answers count too; what matters is that the name is there.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from medmm.types import Note, Report

COVER = "_"
# Shorter names ("G2", "no") are words of other meanings too often.
MIN_LETTERS = 4


def find_answers(text: str, answers: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Return where `text` names one of the `answers`, as (start, end) in order.

    Case, the number of spaces, underscores and hyphens do not matter; whole words only, a plural s included.

    >>> find_answers("Known GLIO-BLASTOMA; glioma.", ["glio blastoma"])
    ((6, 19),)
    """
    names = sorted({tuple(re.findall(r"\w+", answer.replace("_", " ").lower())) for answer in answers}, reverse=True)
    patterns = [r"[\s_-]+".join(map(re.escape, words)) for words in names if sum(map(len, words)) >= MIN_LETTERS]
    if not patterns:
        return ()
    found = re.finditer(rf"(?<!\w)(?:{'|'.join(patterns)})s?(?!\w)", text, re.IGNORECASE)
    return tuple(match.span() for match in found)


def note_leak(report: Report, answers: Collection[str]) -> Report:
    """Return the report with a note where it names an answer."""
    return _noted(report, "The report names a possible answer, so the answer may repeat it.", answers)


def cover_answers(report: Report, answers: Collection[str]) -> Report:
    """Return the report with the names of answers covered, letter by letter, so that every offset still fits."""
    covered = _noted(report, "The report names a possible answer; these words were covered before reading.", answers)
    text = report.text
    for start, end in find_answers(text, answers):
        text = text[:start] + re.sub(r"\w", COVER, text[start:end]) + text[end:]
    return replace(covered, text=text)


def _noted(report: Report, sentence: str, answers: Collection[str]) -> Report:
    if not find_answers(report.text, answers):
        return report
    return replace(report, notes=(*report.notes, Note("report.label_leak", sentence)))
