"""Abbreviations that a text defines itself: "Wiskott-Aldrich syndrome (WAS)".

Source: Schwartz and Hearst, A simple algorithm for identifying abbreviation definitions in biomedical text, PSB 2003.
"""

import re
from typing import NamedTuple

_PARENTHESIS = re.compile(r"\(([A-Za-z][A-Za-z0-9/&-]{1,9})(?:[,;][^()]*)?\)")
_WORD_BEFORE = re.compile(r"[^\s()\[\],;:.]+")


class Definition(NamedTuple):
    """An abbreviation and the character span of its long form."""

    short: str
    start: int
    end: int


def find_definitions(text: str) -> list[Definition]:
    """Return every "long form (SHORT)" of a text."""
    found = []
    for match in _PARENTHESIS.finditer(text):
        short = match.group(1)
        if not any(char.isupper() for char in short) or not short[0].isalnum():
            continue
        begin = max(text.rfind(". ", 0, match.start()) + 1, match.start() - 120, 0)
        limit = min(len(short) + 5, len(short) * 2)
        words = list(_WORD_BEFORE.finditer(text, begin, match.start()))[-limit:]
        if not words:
            continue
        start = _long_form(short, text, words[0].start(), match.start())
        if start is not None:
            found.append(Definition(short, start, len(text[: match.start()].rstrip())))
    return found


def _long_form(short: str, text: str, begin: int, end: int) -> int | None:
    """Match the letters of `short` backwards into text[begin:end]; the first must start a word."""
    position = end - 1
    for index in range(len(short) - 1, -1, -1):
        char = short[index].lower()
        if not char.isalnum():
            continue
        while position >= begin and (
            text[position].lower() != char or (index == 0 and position > begin and text[position - 1].isalnum())
        ):
            position -= 1
        if position < begin:
            return None
        position -= 1
    start = position + 1
    return start if len(text[start:end].split()) >= 1 and end - start > len(short) else None
