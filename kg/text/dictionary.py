"""All names of a graph as phrases of folded tokens, filtered so that what matches can be trusted."""

import re
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kg.collector import collector_paused
from kg.resolve import MADE_FROM_NAMES
from kg.schema import SCOPES
from kg.text.adjectives import NOUN_OF
from kg.text.mention import Method
from kg.text.normalise import normal_name, normalise
from kg.text.stop_terms import FUNCTION_WORDS, STOP_TERMS
from kg.text.trie import TokenTrie
from kg.text.variants import variants

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

MAX_TOKENS = 12
LINKED_KINDS = ("disease", "finding", "phenotype", "anatomy", "code")
# Sources whose abbreviations are those of reports; others' (gene symbols) count only where a text defines them.
CLINICAL_SOURCES = frozenset(("hpo", "radiology", "dicom", "icd10cm", "pathology"))
VARIANT_PENALTY = 0.1
_SCORE: dict[Method, float] = {"name": 1.0, "synonym": 0.95, "abbreviation": 0.8, "adjective": 0.75, "related": 0.7}
_METHOD: dict[str, Method] = {
    "exact": "synonym",
    "abbreviation": "abbreviation",
    "narrow": "synonym",
    "related": "related",
}
_CLASS: dict[Method, int] = {"name": 0, "synonym": 0, "abbreviation": 2, "adjective": 3, "related": 4}
_ORDER: tuple[Method, ...] = ("name", "synonym", "abbreviation", "adjective", "related")
_LETTER = re.compile(r"[a-z]")
_ABBREVIATION = re.compile(r"[A-Z][A-Za-z]{0,3}[A-Z0-9]{1,4}|[A-Z]{2,6}s?")


class Entry(NamedTuple):
    """What a normal form means. `surface` is an abbreviation as it must be written (its case counts), else empty."""

    concept: int
    method: Method
    score: float
    surface: str
    is_clinical: bool


class _Candidate(NamedTuple):
    concept: int
    text: str
    method: Method
    is_clinical: bool


class Dictionary:
    """Phrases in normal form and their meanings, as columns: so many objects would burden every garbage collection."""

    def __init__(self, chosen: Mapping[tuple[str, ...], Entry]) -> None:
        self.trie = TokenTrie()
        for value, tokens in enumerate(chosen):
            self.trie.add(tokens, value)
        entries = chosen.values()
        self._concepts = array("i", [entry.concept for entry in entries])
        self._methods = bytes([_ORDER.index(entry.method) for entry in entries])
        self._scores = array("f", [entry.score for entry in entries])
        self._surfaces = [entry.surface for entry in entries]
        self._clinical = bytes([entry.is_clinical for entry in entries])
        self.entry = lru_cache(maxsize=65_536)(self._entry)  # reports repeat their words

    def __len__(self) -> int:
        return len(self._concepts)

    def _entry(self, value: int) -> Entry:
        """Return the entry of a phrase found by the trie."""
        return Entry(
            self._concepts[value],
            _ORDER[self._methods[value]],
            round(self._scores[value], 4),
            self._surfaces[value],
            bool(self._clinical[value]),
        )

    def get(self, tokens: list[str]) -> Entry | None:
        """Return the entry of exactly these tokens."""
        value = self.trie.get(tokens)
        return None if value is None else self.entry(value)


def build_dictionary(graph: "KnowledgeGraph") -> Dictionary:
    """Return the dictionary of a graph's names and synonyms."""
    with collector_paused():
        return Dictionary(_choose(graph))


def _choose(graph: "KnowledgeGraph") -> dict[tuple[str, ...], Entry]:
    """Best entry for every normal form: by method, kind, authority, then popularity in the graph."""
    kind_rank = [len(LINKED_KINDS)] * len(graph.kinds)
    for rank, kind in enumerate(LINKED_KINDS):
        kind_rank[graph.kinds.index(kind)] = rank
    ranks = [kind_rank[kind] for kind in graph.arrays["kind"].tolist()]
    popularity = graph.arrays["popularity"].tolist()
    is_made = [curie.partition(":")[0] in MADE_FROM_NAMES for curie in graph.ids.to_list()]
    best: dict[tuple[str, ...], tuple[tuple[float, ...], Entry]] = {}
    for candidate in _candidates(graph):
        concept, method = candidate.concept, candidate.method
        surface = candidate.text if method == "abbreviation" else ""
        for tokens, penalty in _forms(candidate):
            order = (
                _CLASS[method] + penalty,
                ranks[concept],
                is_made[concept],
                _ORDER.index(method),
                -popularity[concept],
                concept,
            )
            key = tuple(tokens)
            if key not in best or order < best[key][0]:
                score = _SCORE[method] - VARIANT_PENALTY * penalty
                best[key] = (order, Entry(concept, method, score, surface, candidate.is_clinical))
    return {key: entry for key, (_, entry) in best.items()}


def _candidates(graph: "KnowledgeGraph") -> Iterator[_Candidate]:
    linked = {graph.kinds.index(kind) for kind in LINKED_KINDS}
    anatomy = graph.kinds.index("anatomy")
    kinds = graph.arrays["kind"].tolist()
    clinical = [source.name in CLINICAL_SOURCES for source in graph.sources]
    for concept, name in enumerate(graph.names.to_list()):
        if kinds[concept] in linked:
            yield _Candidate(concept, name, "name", True)
    yield from _adjectives(graph)
    owners = np.repeat(np.arange(graph.n_concepts), np.diff(graph.arrays["synonym_indptr"])).tolist()
    columns = (
        graph.synonym_table.to_list(),
        graph.arrays["synonym_scope"].tolist(),
        graph.arrays["synonym_source"].tolist(),
    )
    for concept, text, code, source in zip(owners, *columns, strict=True):
        scope = SCOPES[code]
        if kinds[concept] not in linked or scope == "broad" or (kinds[concept] == anatomy and scope == "related"):
            continue
        method = "abbreviation" if _ABBREVIATION.fullmatch(text) else _METHOD[scope]
        yield _Candidate(concept, text, method, clinical[source])


def _adjectives(graph: "KnowledgeGraph") -> Iterator[_Candidate]:
    by_name = {normal_name(graph.name(concept)): concept for concept in graph.of_kind("anatomy").tolist()}
    for adjective, noun in NOUN_OF.items():
        if (concept := by_name.get(normal_name(noun))) is not None:
            yield _Candidate(concept, adjective, "adjective", True)


def _forms(candidate: _Candidate) -> Iterator[tuple[list[str], int]]:
    """Token sequences under which a name is found, each with 1 where it is a variant; none where it would do harm."""
    tokens = normalise(candidate.text).tokens
    name = " ".join(tokens)
    is_short = candidate.method == "abbreviation"
    if not tokens or len(tokens) > MAX_TOKENS or not _LETTER.search(name) or name in STOP_TERMS:
        return
    if FUNCTION_WORDS.issuperset(tokens):
        return
    if (len(name) < 3 and not is_short) or (candidate.method == "related" and len(tokens) < 2):
        return
    yield tokens, 0
    if not is_short:
        for form in variants(tokens):
            yield form, 1
