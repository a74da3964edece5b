"""What a sentence says about a mention: denied, doubted, past, hypothetical, or somebody else's.

ConText (Harkema et al., J Biomed Inform 2009;42:839-851): a trigger phrase acts forwards or backwards until the end of
the sentence, a termination phrase, or its reach. Section headings set the defaults for what stands below them.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from kg.text.context_rules import MAX_REACH, Category, Rule, trigger_table
from kg.text.mention import Experiencer, Status, Temporality
from kg.text.normalise import Normalised, normalise
from kg.text.trie import TokenTrie

# Punctuation that ends a trigger's reach without ending the sentence.
_STOPS = frozenset(";:")
_FULL_STOPS = frozenset(".!?")
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


class _Trigger(NamedTuple):
    rules: tuple[Rule, ...]
    span: Span


class _Effect(NamedTuple):
    rule: Rule
    span: Span


_PLAIN = Context()

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
        "social history",
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
    triggers = _find_triggers(tokens.tokens, mentions)
    starts = [span.start for _, span in triggers]
    by_sentence: dict[int, list[int]] = defaultdict(list)
    for index, mention in enumerate(mentions):
        by_sentence[bisect_right(bounds, mention.start) - 1].append(index)
    found: list[Context] = [_PLAIN] * len(mentions)
    for sentence, members in by_sentence.items():
        start = bounds[sentence]
        stop = bounds[sentence + 1] if sentence + 1 < len(bounds) else len(tokens.tokens)
        inside = triggers[bisect_left(starts, start) : bisect_left(starts, stop)]
        effects = _effects(tokens.tokens, inside, Span(start, stop)) if inside else []
        if not effects and not headings:
            continue
        begins = [effect.span.start for effect in effects]
        for index in members:
            first, last = mentions[index]
            near = effects[bisect_left(begins, first - MAX_REACH) : bisect_right(begins, first)]
            acting = {rule.category for rule, (_, end) in near if last <= end}
            section = _section_default(headings, tokens.starts[first]) if headings else _PLAIN
            found[index] = _combine(acting, section) if acting else section
    return found


def _combine(acting: set[Category], section: Context) -> Context:
    status: Status = "absent" if "negation" in acting else "uncertain" if "uncertainty" in acting else section.status
    experiencer: Experiencer = "other" if "other" in acting else section.experiencer
    temporality: Temporality = section.temporality
    if "hypothetical" in acting:
        temporality = "hypothetical"
    elif "historical" in acting:
        temporality = "historical"
    return Context(status, experiencer, temporality)


def _effects(tokens: list[str], triggers: list[_Trigger], sentence: Span) -> list[_Effect]:
    """What the triggers of one sentence act on, by where that begins."""
    stops = _stops(tokens, triggers, sentence)
    effects = []
    for rules, span in triggers:
        for rule in rules:
            if rule.direction == "none":
                continue
            ends = stops[rule.category]
            if rule.direction == "pre":
                at = bisect_right(ends, span.stop - 1)
                limit = ends[at] if at < len(ends) else sentence.stop
                effects.append(_Effect(rule, Span(span.stop, min(limit, span.stop + rule.reach))))
            else:
                at = bisect_right(ends, span.start - 1)
                limit = ends[at - 1] + 1 if at else sentence.start
                effects.append(_Effect(rule, Span(max(limit, span.start - rule.reach), span.start)))
    effects.sort(key=_by_start)
    return effects


def _by_start(effect: _Effect) -> int:
    return effect.span.start


def _stops(tokens: list[str], triggers: list[_Trigger], sentence: Span) -> dict[Category, list[int]]:
    """Positions, per category, at which a trigger of that category stops acting."""
    found: dict[Category, list[int]] = {category: [] for category in _ACTING}
    for rules, span in triggers:
        for rule in rules:
            for category in rule.ends:
                found[category].append(span.start)
    marks = [at for at in range(sentence.start, sentence.stop) if tokens[at] in _STOPS]
    if marks:
        for category in _ACTING:
            if category != "hypothetical":  # "call if any of the following are noted: fever; chills"
                found[category] = sorted(found[category] + marks)
    return found


def _find_triggers(tokens: list[str], mentions: list[Span]) -> list[_Trigger]:
    """Longest trigger phrases of a text from left to right, without overlap and outside the mentions' own words."""
    trie, rules = _table()
    covered = {at for mention in mentions for at in range(mention.start, mention.stop)}
    longest: dict[int, tuple[int, int]] = {}
    for start, stop, value in trie.find(tokens):
        if start not in covered and (stop - start == 1 or covered.isdisjoint(range(start, stop))):
            longest[start] = (stop, value)  # by start, then length: the last one is the longest
    found: list[_Trigger] = []
    free = 0
    for start, (stop, value) in longest.items():
        if start >= free:
            found.append(_Trigger(rules[value], Span(start, stop)))
            free = stop
    return found


@lru_cache(maxsize=1)
def _table() -> tuple[TokenTrie, list[tuple[Rule, ...]]]:
    trie = TokenTrie()
    rules: list[tuple[Rule, ...]] = []
    for phrase, acting in trigger_table().items():
        trie.add(phrase, len(rules))
        rules.append(acting)
    return trie, rules


def _sentence_bounds(text: str, tokens: Normalised) -> list[int]:
    """Token positions at which sentences begin."""
    words, starts, ends = tokens.tokens, tokens.starts, tokens.ends
    bounds = {0}
    stops = [at for at, word in enumerate(words) if word in _FULL_STOPS]
    bounds.update(at + 1 for at in stops if _ends_sentence(text, starts[at], ends[at]))
    for pattern in (_BLANK_LINE, _NEW_ITEM):
        bounds.update(bisect_left(starts, match.start()) for match in pattern.finditer(text))
    bounds.discard(len(words))
    return sorted(bounds)


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
