"""Find the concepts that a text names, and what it says about them.

normalise -> dictionary (longest match) -> abbreviations in context -> ConText -> embedding fallback on request.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from kg.text.abbreviations import Stream, find_definitions, spelt_out
from kg.text.context import Span, contexts
from kg.text.coordination import add_coordinated
from kg.text.dictionary import Dictionary, Entry, build_dictionary
from kg.text.mention import Mention, Method
from kg.text.normalise import Normalised, normalise

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

Embedder = Callable[[Sequence[str]], np.ndarray]
NEAREST_KINDS = ("disease", "finding", "phenotype")
ACCEPTED_COSINE, FLAGGED_COSINE = 0.8, 0.7


class Linker:
    """A linker over one graph. Building it takes seconds; use one for many texts."""

    def __init__(self, graph: "KnowledgeGraph") -> None:
        self.graph = graph
        self._vectors: tuple[Embedder, np.ndarray] | None = None
        self._id = lru_cache(maxsize=65_536)(graph.id)  # decoding an id costs as much as the rest of a mention
        self._dictionary: Dictionary = build_dictionary(graph)
        self._kinds, self._anatomy = graph.arrays["kind"], graph.kinds.index("anatomy")

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
                    concept=self._id(entry.concept),
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
        entry = self._dictionary.get(normalise(name).tokens)
        return None if entry is None else self.graph.id(entry.concept)

    def lookup_any(self, name: str, kinds: Sequence[str]) -> str | None:
        """Return the concept whose name or synonym is exactly this, if it is of one of the kinds."""
        entry = self._dictionary.get(normalise(name).tokens)
        if entry is None or self.graph.kind(entry.concept) not in kinds:
            return None
        return self.graph.id(entry.concept)

    def nearest(self, names: Sequence[str], embed: Embedder) -> list[Mention | None]:
        """Return the concept nearest in meaning to each name, for names that `lookup` does not know.

        Cosine of at least .8 is accepted, .7 to .8 is flagged for a person to check, below that there is no answer:
        of titles judged by hand, all of those above .9, 11 of 14 above .8 and 2 of 8 below .7 were right.

        Args:
            names: Names of diagnoses or findings, not running text.
            embed: Texts to vectors (n, F); called once for all names of the graph's diseases, findings and phenotypes,
                which takes minutes for a sentence encoder on the default graph.
        """
        positions = self.graph.of_kind(*NEAREST_KINDS)
        if self._vectors is None or self._vectors[0] is not embed:
            self._vectors = (embed, _unit(np.asarray(embed([self.graph.name(at) for at in positions.tolist()]))))
        found: list[Mention | None] = []
        for name, vector in zip(names, _unit(np.asarray(embed(list(names)))), strict=True):
            similarity = self._vectors[1] @ vector
            best = int(similarity.argmax())
            score = float(similarity[best])
            method: Method = "embedding" if score >= ACCEPTED_COSINE else "embedding-flagged"
            concept = self.graph.id(int(positions[best]))
            found.append(
                Mention(start=0, end=len(name), text=name, concept=concept, score=round(score, 4), method=method)
                if score >= FLAGGED_COSINE
                else None
            )
        return found

    def _matches(self, text: str, tokens: Normalised) -> list[tuple[Span, Entry]]:
        """Longest trusted matches over the text as written and with its own abbreviations spelt out."""
        if not len(self._dictionary) or not tokens.tokens:
            return []
        found = self._search(tokens.tokens, None)
        defined = self._defined(text, tokens) if "(" in text else {}
        if defined:
            for stream in spelt_out(tokens.tokens, _uses(text, tokens, defined)):
                found += self._search(stream.tokens, stream)
        named = {entry.concept for _, entry in found if not entry.surface}
        longest = _longest(
            [
                (span, entry)
                for span, entry in found
                if not entry.surface or self._is_trusted(entry, text, tokens, span, named, defined)
            ]
        )
        return add_coordinated(tokens.tokens, longest, self._dictionary, self._is_anatomy)

    def _is_anatomy(self, concept: int) -> bool:
        return bool(self._kinds[concept] == self._anatomy)

    def _search(self, words: list[str], stream: Stream | None) -> list[tuple[Span, Entry]]:
        """All dictionary matches in a token sequence, as spans of the original tokens."""
        entry = self._dictionary.entry
        matches = self._dictionary.trie.find(words)
        if stream is None:
            return [(Span(start, stop), entry(value)) for start, stop, value in matches]
        return [
            (Span(stream.origin[start].start, stream.origin[stop - 1].stop), entry(value))
            for start, stop, value in matches
            if stream.is_whole(start, stop) and not entry(value).surface
        ]

    def _defined(self, text: str, tokens: Normalised) -> dict[str, list[str]]:
        """Abbreviations that the text defines, as written, with the tokens of their long forms."""
        found: dict[str, list[str]] = {}
        for short, start, end in find_definitions(text):
            first, last = bisect_left(tokens.starts, start), bisect_left(tokens.starts, end)
            if tokens.tokens[first:last]:
                found.setdefault(short, tokens.tokens[first:last])
        return found

    def _is_trusted(
        self, entry: Entry, text: str, tokens: Normalised, span: Span, named: set[int], defined: dict[str, list[str]]
    ) -> bool:
        """Whether an abbreviation may stand: written in its case, and clinical or explained by the text itself."""
        written = text[tokens.starts[span.start] : tokens.ends[span.stop - 1]]
        if written in defined:
            return False
        if written.rstrip("s") != entry.surface.rstrip("s"):
            return False
        return entry.concept in named or (entry.is_clinical and len(written) >= 3)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: np.ndarray = vectors / np.maximum(norms, 1e-12)
    return result


def _uses(text: str, tokens: Normalised, defined: dict[str, list[str]]) -> dict[int, list[str]]:
    """Positions at which a defined abbreviation stands as it was written (a plural s allowed), with its long form."""
    found = {}
    for position, (start, end) in enumerate(zip(tokens.starts, tokens.ends, strict=True)):
        written = text[start:end]
        long_form = defined.get(written) or defined.get(written.removesuffix("s"))
        if long_form is not None:
            found[position] = long_form
    return found


def _longest(found: list[tuple[Span, Entry]]) -> list[tuple[Span, Entry]]:
    """Longest matches without overlap, earlier first among equals, in text order."""
    kept: list[tuple[Span, Entry]] = []
    taken: set[int] = set()
    for item in sorted(found, key=_by_length):
        start, stop = item[0]
        if stop - start == 1:
            if start in taken:
                continue
            taken.add(start)
        elif taken.isdisjoint(range(start, stop)):
            taken.update(range(start, stop))
        else:
            continue
        kept.append(item)
    kept.sort(key=_by_place)
    return kept


def _by_length(item: tuple[Span, Entry]) -> tuple[int, int]:
    return item[0].start - item[0].stop, item[0].start


def _by_place(item: tuple[Span, Entry]) -> int:
    return item[0].start


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
