"""All names of a graph in one Aho-Corasick automaton, filtered so that what matches can be trusted.

Tokens are coded as " token\\n": a match then begins and ends at token borders by construction, and neighbours share no
character. Build time and search are linear (Aho and Corasick, CACM 1975;18:333-340; library pyahocorasick).
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kg.schema import SCOPES
from kg.text.mention import Method
from kg.text.normalise import normalise
from kg.text.stop_terms import STOP_TERMS

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

MAX_TOKENS = 12
LINKED_KINDS = ("disease", "finding", "phenotype", "anatomy", "code")
_SCORE: dict[Method, float] = {"name": 1.0, "synonym": 0.95, "abbreviation": 0.8, "related": 0.7}
_METHOD: dict[str, Method] = {
    "exact": "synonym",
    "abbreviation": "abbreviation",
    "narrow": "synonym",
    "related": "related",
}
_METHOD_ORDER: tuple[Method, ...] = ("name", "synonym", "abbreviation", "related")
_LETTER = re.compile(r"[a-z]")
_SHORT_UPPER = re.compile(r"[A-Z][A-Za-z]{0,3}[A-Z0-9]{1,4}|[A-Z]{2,6}s?")


class Entry(NamedTuple):
    """What a normal form means. `surface` is the abbreviation as written (its case counts), else empty."""

    concept: int
    method: Method
    score: float
    surface: str


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Normal forms and the automaton over them; `entries[value]` belongs to a match's value."""

    automaton: object
    entries: list[Entry]
    lengths: list[int]
    values: dict[str, int]


def encode(tokens: list[str]) -> str:
    """Return tokens as the string that the automaton reads."""
    return "".join([f" {token}\n" for token in tokens])


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
    """Best entry for every normal form: by method, then kind, then popularity in the graph."""
    kind_rank = np.full(len(graph.kinds), len(LINKED_KINDS), dtype=int)
    for rank, kind in enumerate(LINKED_KINDS):
        kind_rank[graph.kinds.index(kind)] = rank
    kinds, popularity = graph.arrays["kind"], graph.arrays["popularity"]
    best: dict[str, tuple[tuple[int, int, float, int], Entry]] = {}
    for concept, text, method in _candidates(graph):
        key = _key(text, method)
        if key is None:
            continue
        order = (
            _METHOD_ORDER.index(method),
            int(kind_rank[kinds[concept]]),
            -float(popularity[concept]),
            concept,
        )
        if key not in best or order < best[key][0]:
            surface = text if method == "abbreviation" else ""
            best[key] = (order, Entry(concept, method, _SCORE[method], surface))
    return {key: entry for key, (_, entry) in best.items()}


def _candidates(graph: "KnowledgeGraph") -> list[tuple[int, str, Method]]:
    linked = {graph.kinds.index(kind) for kind in LINKED_KINDS}
    anatomy = graph.kinds.index("anatomy")
    kinds = graph.arrays["kind"].tolist()
    found: list[tuple[int, str, Method]] = [
        (concept, name, "name") for concept, name in enumerate(graph.names.to_list()) if kinds[concept] in linked
    ]
    owners = np.repeat(np.arange(graph.n_concepts), np.diff(graph.arrays["synonym_indptr"])).tolist()
    texts = graph.synonym_table.to_list()
    for concept, text, code in zip(owners, texts, graph.arrays["synonym_scope"].tolist(), strict=True):
        scope = SCOPES[code]
        if kinds[concept] not in linked or scope == "broad" or (kinds[concept] == anatomy and scope == "related"):
            continue
        method: Method = _METHOD[scope]
        found.append((concept, text, "abbreviation" if _SHORT_UPPER.fullmatch(text) else method))
    return found


def _key(text: str, method: Method) -> str | None:
    """The coded normal form of a name, or None where matching it would do harm."""
    tokens = normalise(text).tokens
    name = " ".join(tokens)
    if not tokens or len(tokens) > MAX_TOKENS or not _LETTER.search(name) or name in STOP_TERMS:
        return None
    if len(name) < 3 and method != "abbreviation":
        return None
    if method == "related" and len(tokens) < 2:
        return None
    return encode(tokens)
