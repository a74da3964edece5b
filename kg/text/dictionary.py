"""All names of a graph in one Aho-Corasick automaton, filtered so that what matches can be trusted.

Tokens are coded as " token\\n": a match then begins and ends at token borders by construction, and neighbours share no
character. Build time and search are linear (Aho and Corasick, CACM 1975;18:333-340; library pyahocorasick).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kg.resolve import MADE_FROM_NAMES
from kg.schema import SCOPES
from kg.text.adjectives import NOUN_OF
from kg.text.mention import Method
from kg.text.normalise import normal_name, normalise
from kg.text.stop_terms import FUNCTION_WORDS, STOP_TERMS
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


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Normal forms and the automaton over them; `entries[value]` belongs to a match's value."""

    automaton: object
    entries: list[Entry]
    lengths: list[int]
    values: dict[str, int]

    def find(self, tokens: list[str]) -> Entry | None:
        """Return the entry of exactly these tokens."""
        value = self.values.get(encode(tokens))
        return None if value is None else self.entries[value]


def encode(tokens: list[str]) -> str:
    """Return tokens as the string that the automaton reads."""
    return " " + "\n ".join(tokens) + "\n" if tokens else ""


def build_dictionary(graph: "KnowledgeGraph") -> Dictionary:
    """Return the dictionary of a graph's names and synonyms (about 2 s and 60 MB for the default graph)."""
    import ahocorasick

    chosen = _choose(graph)
    automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
    entries: list[Entry] = []
    lengths: list[int] = []
    values: dict[str, int] = {}
    for key in sorted(chosen):
        values[key] = len(entries)
        automaton.add_word(key, len(entries))
        lengths.append(key.count("\n"))
        entries.append(chosen[key])
    if entries:
        automaton.make_automaton()
    return Dictionary(automaton, entries, lengths, values)


def _choose(graph: "KnowledgeGraph") -> dict[str, Entry]:
    """Best entry for every normal form: by method, kind, authority, then popularity in the graph."""
    kind_rank = [len(LINKED_KINDS)] * len(graph.kinds)
    for rank, kind in enumerate(LINKED_KINDS):
        kind_rank[graph.kinds.index(kind)] = rank
    ranks = [kind_rank[kind] for kind in graph.arrays["kind"].tolist()]
    popularity = graph.arrays["popularity"].tolist()
    is_made = [curie.partition(":")[0] in MADE_FROM_NAMES for curie in graph.ids.to_list()]
    best: dict[str, tuple[tuple[float, ...], Entry]] = {}
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
            key = encode(tokens)
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
