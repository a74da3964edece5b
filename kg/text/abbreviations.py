"""Abbreviations that a text defines itself: "Wiskott-Aldrich syndrome (WAS)".

Source: Schwartz and Hearst, A simple algorithm for identifying abbreviation definitions in biomedical text, PSB 2003.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

_PARENTHESIS = re.compile(r"\(([A-Za-z][A-Za-z0-9/&-]{1,9})(?:[,;][^()]*)?\)")
MAX_LONG_FORM_CHARS = 120
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
        reach = max(match.start() - MAX_LONG_FORM_CHARS, 0)
        begin = max(text.rfind(". ", reach, match.start()) + 1, reach)
        limit = min(len(short) + 5, len(short) * 2)
        words = list(_WORD_BEFORE.finditer(text, begin, match.start()))[-limit:]
        if not words:
            continue
        start = _long_form(short, text, words[0].start(), match.start())
        if start is not None:
            found.append(Definition(short, start, start + len(text[start : match.start()].rstrip())))
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


class Origin(NamedTuple):
    """Original token positions [start, stop) that a token of a stream stands for."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A text's tokens with something replaced; `changed` counts replaced or dropped tokens up to each position."""

    tokens: list[str]
    origin: list[Origin]
    changed: list[int]

    def is_whole(self, start: int, stop: int) -> bool:
        """Whether [start, stop) holds a change and cuts no long form in two."""
        is_cut_left = start > 0 and self.origin[start - 1] == self.origin[start]
        is_cut_right = stop < len(self.origin) and self.origin[stop - 1] == self.origin[stop]
        return self.changed[stop] > self.changed[start] and not (is_cut_left or is_cut_right)


def spelt_out(tokens: list[str], uses: dict[int, list[str]]) -> tuple[Stream, Stream]:
    """Return two readings: every defined abbreviation replaced by its long form, and "(ABBR)" left out.

    `uses` gives the long form at each position where a defined abbreviation stands.
    "glucose-6-phosphate dehydrogenase (G6PD) deficiency" names the deficiency only in the second reading, a later
    "G6PD deficiency" only in the first.
    """
    return _replaced(tokens, uses), _without_parentheses(tokens, uses)


def _replaced(tokens: list[str], uses: dict[int, list[str]]) -> Stream:
    words: list[str] = []
    origin: list[Origin] = []
    changed = [0]
    for position, token in enumerate(tokens):
        long_form = uses.get(position)
        for word in long_form or [token]:
            words.append(word)
            origin.append(Origin(position, position + 1))
            changed.append(changed[-1] + (long_form is not None))
    return Stream(words, origin, changed)


def _without_parentheses(tokens: list[str], uses: dict[int, list[str]]) -> Stream:
    words: list[str] = []
    origin: list[Origin] = []
    changed = [0]
    position = 0
    while position < len(tokens):
        if tokens[position] == "(" and tokens[position + 2 : position + 3] == [")"] and position + 1 in uses:
            if origin:
                changed[-1] += 1
            position += 3
            continue
        words.append(tokens[position])
        origin.append(Origin(position, position + 1))
        changed.append(changed[-1])
        position += 1
    return Stream(words, origin, changed)
