"""What a sentence says about a mention: denied, doubted, past, hypothetical, or somebody else's.

ConText (Harkema et al., J Biomed Inform 2009;42:839-851): a trigger phrase acts forwards or backwards until the end of
the sentence, a termination phrase, or its reach. Section headings set the defaults for what stands below them.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from kg.text.context_rules import Category, Rule, trigger_table
from kg.text.mention import Experiencer, Status, Temporality
from kg.text.normalise import Normalised, normalise

# Punctuation that ends a trigger's reach without ending the sentence.
_STOPS = frozenset(";:")
_ACTING: tuple[Category, ...] = ("negation", "uncertainty", "historical", "hypothetical", "other")
_HEADING = re.compile(r"^[ \t]*([A-Za-z][A-Za-z /&()-]{2,48}?)[ \t]*:", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
# A line break ends a sentence only where the next line starts like a new item.
_NEW_ITEM = re.compile(r"\n[ \t]*(?=[-*•▪·]|\d+[.)]\s|[A-Z][A-Za-z /&]{2,40}:)")


@dataclass(frozen=True, slots=True)
class Context:
    """What the text says about one mention."""

    status: Status = "present"
    experiencer: Experiencer = "patient"
    temporality: Temporality = "recent"


class Span(NamedTuple):
    """Token positions [start, stop)."""

    start: int
    stop: int


class _Effect(NamedTuple):
    rule: Rule
    span: Span


_HISTORY_HEADINGS = frozenset(
    (
        "past medical history",
        "past history",
        "medical history",
        "pmh",
        "past surgical history",
        "surgical history",
        "psh",
        "prior history",
    )
)
_FAMILY_HEADINGS = frozenset(("family history", "family medical history", "fh", "fhx"))
_QUESTION_HEADINGS = frozenset(
    (
        "indication",
        "indications",
        "clinical indication",
        "reason for exam",
        "reason for examination",
        "reason for study",
        "clinical question",
        "question",
        "rule out",
    )
)


def context_of(text: str, start: int, end: int) -> Context:
    """Return what a text says about its characters [start, end), for mentions found by other means.

    Raises:
        ValueError: If the span holds no word.
    """
    tokens = normalise(text)
    inside = [at for at, (a, b) in enumerate(zip(tokens.starts, tokens.ends, strict=True)) if a < end and b > start]
    if not inside:
        raise ValueError(f"Expected a span with a word in it (got characters {start} to {end}).")
    return contexts(text, tokens, [Span(inside[0], inside[-1] + 1)])[0]


def contexts(text: str, tokens: Normalised, mentions: list[Span]) -> list[Context]:
    """Return the context of each mention (token spans, in text order)."""
    if not mentions:
        return []
    bounds = _sentence_bounds(text, tokens)
    headings = _headings(text)
    by_sentence: dict[int, list[int]] = defaultdict(list)
    for index, mention in enumerate(mentions):
        by_sentence[bisect_right(bounds, mention.start) - 1].append(index)
    found: list[Context] = [Context()] * len(mentions)
    for sentence, members in by_sentence.items():
        start = bounds[sentence]
        stop = bounds[sentence + 1] if sentence + 1 < len(bounds) else len(tokens.tokens)
        spans = [Span(mentions[index].start - start, mentions[index].stop - start) for index in members]
        acting = _judge(tokens.tokens[start:stop], spans)
        for index, categories in zip(members, acting, strict=True):
            section = _section_default(headings, tokens.starts[mentions[index].start])
            found[index] = _combine(categories, section)
    return found


def _judge(tokens: list[str], mentions: list[Span]) -> list[set[Category]]:
    """Return what acts on each mention of a sentence; a trigger inside a mention's own words does not act."""
    covered = {position for mention in mentions for position in range(mention.start, mention.stop)}
    effects = _effects(tokens, covered)
    return [
        {
            effect.rule.category
            for effect in effects
            if effect.span.start <= mention.start and mention.stop <= effect.span.stop
        }
        for mention in mentions
    ]


def _combine(acting: set[Category], section: Context) -> Context:
    status: Status = "absent" if "negation" in acting else "uncertain" if "uncertainty" in acting else section.status
    experiencer: Experiencer = "other" if "other" in acting else section.experiencer
    temporality: Temporality = section.temporality
    if "hypothetical" in acting:
        temporality = "hypothetical"
    elif "historical" in acting:
        temporality = "historical"
    return Context(status, experiencer, temporality)


def _effects(tokens: list[str], covered: set[int]) -> list[_Effect]:
    triggers = _find_triggers(tokens, covered)
    stops = _stops(tokens, triggers)
    effects = []
    for rules, span in triggers:
        for rule in rules:
            if rule.direction == "none":
                continue
            ends = stops[rule.category]
            if rule.direction == "pre":
                at = bisect_right(ends, span.stop - 1)
                limit = ends[at] if at < len(ends) else len(tokens)
                effects.append(_Effect(rule, Span(span.stop, min(limit, span.stop + rule.reach))))
            else:
                at = bisect_right(ends, span.start - 1)
                limit = ends[at - 1] + 1 if at else 0
                effects.append(_Effect(rule, Span(max(limit, span.start - rule.reach), span.start)))
    return effects


def _stops(tokens: list[str], triggers: list[tuple[tuple[Rule, ...], Span]]) -> dict[Category, list[int]]:
    """Positions, per category, at which a trigger of that category stops acting."""
    found: dict[Category, list[int]] = {category: [] for category in _ACTING}
    for rules, span in triggers:
        for rule in rules:
            for category in rule.ends:
                found[category].append(span.start)
    marks = [position for position, token in enumerate(tokens) if token in _STOPS]
    for category in _ACTING:
        if category != "hypothetical":  # "call if any of the following are noted: fever; chills"
            found[category] = sorted(found[category] + marks)
    return found


def _find_triggers(tokens: list[str], covered: set[int]) -> list[tuple[tuple[Rule, ...], Span]]:
    """Longest trigger phrases from left to right, without overlap."""
    table, first_words = _table()
    found, position = [], 0
    while position < len(tokens):
        longest = 0 if position in covered else first_words.get(tokens[position], 0)
        for size in range(min(longest, len(tokens) - position), 0, -1):
            rules = table.get(tuple(tokens[position : position + size]))
            if rules is not None and covered.isdisjoint(range(position, position + size)):
                found.append((rules, Span(position, position + size)))
                position += size
                break
        else:
            position += 1
    return found


@lru_cache(maxsize=1)
def _table() -> tuple[dict[tuple[str, ...], tuple[Rule, ...]], dict[str, int]]:
    table = trigger_table()
    first_words: dict[str, int] = {}
    for phrase in table:
        first_words[phrase[0]] = max(first_words.get(phrase[0], 0), len(phrase))
    return table, first_words


def _sentence_bounds(text: str, tokens: Normalised) -> list[int]:
    """Token positions at which sentences begin."""
    bounds = [0]
    words, starts, ends = tokens.tokens, tokens.starts, tokens.ends
    breaks = sorted({match.start() for pattern in (_BLANK_LINE, _NEW_ITEM) for match in pattern.finditer(text)})
    next_break = 0
    for position, word in enumerate(words):
        while next_break < len(breaks) and breaks[next_break] < starts[position]:
            if bounds[-1] != position:
                bounds.append(position)
            next_break += 1
        if word in ".!?" and _ends_sentence(text, starts[position], ends[position]) and position + 1 < len(words):
            bounds.append(position + 1)
    return bounds


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether a full stop ends a sentence: followed by space or nothing, not after a single capital or "Dr"."""
    if end < len(text) and not text[end].isspace() and text[end] not in "\"')]":
        return False
    before = text[max(0, start - 4) : start].rsplit(None, 1)
    word = before[-1] if before else ""
    return not (word in ("Dr", "Mr", "Mrs", "Ms", "vs", "St") or (len(word) == 1 and word.isupper() and word != "I"))


def _headings(text: str) -> list[tuple[int, Context]]:
    found = []
    for match in _HEADING.finditer(text):
        name = " ".join(match.group(1).lower().split())
        if name in _HISTORY_HEADINGS:
            found.append((match.end(), Context(temporality="historical")))
        elif name in _FAMILY_HEADINGS:
            found.append((match.end(), Context(experiencer="other")))
        elif name in _QUESTION_HEADINGS:
            found.append((match.end(), Context(status="uncertain")))
        else:
            found.append((match.end(), Context()))
    return found


def _section_default(headings: list[tuple[int, Context]], start: int) -> Context:
    at = bisect_right(headings, start, key=lambda heading: heading[0] - 1) if headings else 0
    return headings[at - 1][1] if at else Context()
