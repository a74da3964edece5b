"""Names that share their last words: "hepatic and splenic cysts" names two findings, the first by one word only.

Looks left of a match that follows "and", "or" or a slash, and lets the words there, and those that a comma joins to
them, borrow the match's end.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kg.text.context import Span

if TYPE_CHECKING:
    from kg.text.dictionary import Dictionary, Entry

Match = tuple[Span, "Entry"]
LAST_JOINERS = frozenset(("and", "or", "/"))
JOINERS = LAST_JOINERS | {","}
MAX_BORROWING_WORDS = 3
MAX_LEADING_WORDS = 2


def add_coordinated(
    tokens: list[str], found: list[Match], dictionary: "Dictionary", is_anatomy: Callable[[int], bool]
) -> list[Match]:
    """Return the matches (in text order) with the borrowed ones added; these replace an organ's name at their place."""
    added: list[Match] = []
    for span, entry in found:
        if span.stop - span.start < 2 or span.start < 2 or tokens[span.start - 1] not in LAST_JOINERS:
            continue
        if is_anatomy(entry.concept):
            continue
        borrowed, left = [], span.start
        while (match := _borrower(tokens, left, span, dictionary, is_anatomy)) is not None:
            borrowed.append(match)
            left = match[0].start
        if borrowed and (joined := _joined(tokens, left, span.stop, dictionary, is_anatomy)) is not None:
            borrowed = [joined]
        added += borrowed
    if not added:
        return found
    return _merged(tokens, found, added, is_anatomy)


def _borrower(
    tokens: list[str], left: int, whole: Span, dictionary: "Dictionary", is_anatomy: Callable[[int], bool]
) -> Match | None:
    """The longest words before the joiners at `left` that make a name with the last words of the match `whole`."""
    end = left
    while end > 0 and tokens[end - 1] in JOINERS:
        end -= 1
    if end in (0, left):
        return None
    for size in range(min(MAX_BORROWING_WORDS, end), 0, -1):
        words = tokens[end - size : end]
        if not JOINERS.isdisjoint(words):
            continue
        for head in range(whole.start + 1, whole.stop):
            entry = dictionary.get(words + tokens[head : whole.stop])
            if entry is not None and not entry.surface and not is_anatomy(entry.concept):
                return Span(end - size, end), entry
    return None


def _joined(
    tokens: list[str], left: int, stop: int, dictionary: "Dictionary", is_anatomy: Callable[[int], bool]
) -> Match | None:
    """The one name that the whole row of words makes: "inherited breast/ovarian cancer" is a syndrome of its own."""
    row = _with_and(tokens[left:stop])
    for start in range(max(0, left - MAX_LEADING_WORDS), left + 1):
        entry = dictionary.get(tokens[start:left] + row)
        if entry is not None and not entry.surface and not is_anatomy(entry.concept):
            return Span(start, stop), entry
    return None


def _with_and(tokens: list[str]) -> list[str]:
    """The tokens with each run of last joiners ("and/or") written as "and"."""
    words: list[str] = []
    for token in tokens:
        if token not in LAST_JOINERS:
            words.append(token)
        elif words[-1:] != ["and"]:
            words.append("and")
    return words


def _merged(
    tokens: list[str], found: list[Match], added: list[Match], is_anatomy: Callable[[int], bool]
) -> list[Match]:
    kept = list(found)
    for span, entry in added:
        touching = [one for one in kept if one[0].start < span.stop and span.start < one[0].stop]
        if all(span.start <= one.start and one.stop <= span.stop for one, _ in touching) and (
            all(is_anatomy(one.concept) for _, one in touching) or LAST_JOINERS & set(tokens[span.start : span.stop])
        ):
            kept = [one for one in kept if one not in touching]
            kept.append((span, entry))
    return sorted(kept, key=lambda one: one[0].start)
