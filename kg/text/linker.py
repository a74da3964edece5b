"""Find the concepts that a text names, and what it says about them.

normalise -> dictionary (longest match) -> abbreviations in context -> ConText -> embedding fallback on request.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from kg.text.abbreviations import find_definitions
from kg.text.context import Span, contexts
from kg.text.dictionary import Dictionary, Entry, build_dictionary, encode
from kg.text.mention import Mention
from kg.text.normalise import Normalised, fold, normalise

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

Embedder = Callable[[Sequence[str]], np.ndarray]


class Linker:
    """A linker over one graph. Building it takes seconds; use one for many texts."""

    def __init__(self, graph: "KnowledgeGraph") -> None:
        self.graph = graph
        self._dictionary: Dictionary = build_dictionary(graph)

    def link(self, text: str) -> list[Mention]:
        """Return the mentions of a text in order, without overlap. Offsets count characters of `text`."""
        tokens = normalise(text)
        found = self._matches(text, tokens)
        spans = [span for span, _ in found]
        mentions = []
        for (span, entry), context in zip(found, contexts(text, tokens, spans), strict=True):
            start, end = tokens.starts[span.start], tokens.ends[span.stop - 1]
            mentions.append(
                Mention(
                    start=start,
                    end=end,
                    text=text[start:end],
                    concept=self.graph.id(entry.concept),
                    status=context.status,
                    experiencer=context.experiencer,
                    temporality=context.temporality,
                    score=entry.score,
                    method=entry.method,
                )
            )
        return mentions

    def link_batch(self, texts: Iterable[str]) -> list[list[Mention]]:
        """Return the mentions of each text."""
        return [self.link(text) for text in texts]

    def lookup(self, name: str) -> str | None:
        """Return the concept whose name or synonym is exactly this (after normalisation), or None."""
        value = self._dictionary.values.get(encode(normalise(name).tokens))
        return None if value is None else self.graph.id(self._dictionary.entries[value].concept)

    def _matches(self, text: str, tokens: Normalised) -> list[tuple[Span, Entry]]:
        if not self._dictionary.entries or not tokens.tokens:
            return []
        defined = self._defined(text)
        coded_ends = np.cumsum([len(token) + 2 for token in tokens.tokens]).tolist()
        automaton: Any = self._dictionary.automaton
        spans: list[tuple[int, int, Entry]] = []
        for end, value in automaton.iter(encode(tokens.tokens)):
            stop = bisect_left(coded_ends, end + 1) + 1
            size = self._dictionary.lengths[value]
            spans.append((stop - size, stop, self._dictionary.entries[value]))
        spans += self._defined_uses(tokens, text, defined)
        return _longest(
            [
                (Span(start, stop), entry)
                for start, stop, entry in spans
                if not entry.surface or self._is_trusted_abbreviation(entry, text, tokens, start, stop, defined)
            ]
        )

    def _defined(self, text: str) -> dict[str, Entry | None]:
        """Abbreviations that the text defines: short form -> entry of the long form (None where it is unknown)."""
        found: dict[str, Entry | None] = {}
        if "(" not in text:
            return found
        for short, start, end in find_definitions(text):
            value = self._dictionary.values.get(encode(normalise(text[start:end]).tokens))
            entry = None if value is None else self._dictionary.entries[value]
            found[short] = entry and entry._replace(method="abbreviation", surface="")
        return found

    def _defined_uses(
        self, tokens: Normalised, text: str, defined: dict[str, Entry | None]
    ) -> list[tuple[int, int, Entry]]:
        if not defined:
            return []
        folded = {fold(short): (short, entry) for short, entry in defined.items() if entry is not None}
        uses = []
        for position, token in enumerate(tokens.tokens):
            known = folded.get(token)
            if known is not None and known[1] is not None:
                written = text[tokens.starts[position] : tokens.ends[position]]
                if written.rstrip("s") == known[0].rstrip("s"):
                    uses.append((position, position + 1, known[1]))
        return uses

    def _is_trusted_abbreviation(
        self, entry: Entry, text: str, tokens: Normalised, start: int, stop: int, defined: dict[str, Entry | None]
    ) -> bool:
        """Whether a dictionary abbreviation may stand: written in its own case, long enough, not defined otherwise."""
        written = text[tokens.starts[start] : tokens.ends[stop - 1]]
        if written in defined:
            return False
        return written.rstrip("s") == entry.surface.rstrip("s") and len(written) >= 3


def _longest(found: list[tuple[Span, Entry]]) -> list[tuple[Span, Entry]]:
    """Longest matches without overlap, earlier first among equals, in text order."""
    kept: list[tuple[Span, Entry]] = []
    taken: set[int] = set()
    for span, entry in sorted(found, key=lambda item: (item[0].start - item[0].stop, item[0].start)):
        positions = range(span.start, span.stop)
        if taken.isdisjoint(positions):
            taken.update(positions)
            kept.append((span, entry))
    return sorted(kept, key=lambda item: item[0])


_LINKERS: "WeakKeyDictionary[KnowledgeGraph, Linker]" = WeakKeyDictionary()


def linker_for(graph: "KnowledgeGraph | None" = None) -> Linker:
    """Return the linker of a graph (the default graph where None), built once a process."""
    if graph is None:
        from kg.building import load_default

        graph = load_default()
    if graph not in _LINKERS:
        _LINKERS[graph] = Linker(graph)
    return _LINKERS[graph]


def link(text: str, graph: "KnowledgeGraph | None" = None) -> list[Mention]:
    """Return the mentions of a text in order, without overlap; see `Linker.link`."""
    return linker_for(graph).link(text)
