"""How well a report fits what the knowledge graph's sources say of candidates: names, definitions, findings.

The graph's relations tell which concepts lie near; its sentences tell more, in words that reports use, too. Scores are
BM25 over what `kg.retrieval.candidate_text` gathers, so a candidate needs no training case.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from kg import KnowledgeGraph
from kg.lexical import LexicalIndex
from kg.retrieval import Candidate, candidate_text


class SourceMatch:
    """Scores of candidates, each a name and its concept in the graph (empty where the graph does not know it)."""

    def __init__(self, graph: KnowledgeGraph, candidates: Sequence[tuple[str, str]]) -> None:
        self._index = LexicalIndex([said_of(graph, name, concept) for name, concept in candidates])

    def scores(self, text: str) -> np.ndarray:
        """Return float32 (L,) in deviations from the candidates' mean; 0 where the text tells none from the others."""
        found = self._index.scores(text)
        spread = float(found.std())
        result: np.ndarray = ((found - found.mean()) / spread if spread > 0 else found * 0).astype(np.float32)
        return result


def said_of(graph: KnowledgeGraph, name: str, concept: str) -> str:
    """Return what the graph's sources say of a candidate; its name where the graph does not know the concept."""
    concepts = {graph.index(concept): 1.0} if concept in graph else {}
    return candidate_text(graph, Candidate(key=name, names=(name,), concepts=concepts))


_KNOWN: "WeakKeyDictionary[KnowledgeGraph, dict[tuple[tuple[str, str], ...], SourceMatch]]" = WeakKeyDictionary()


def source_match(graph: KnowledgeGraph, candidates: Sequence[tuple[str, str]]) -> SourceMatch:
    """Return the scorer of such candidates, built once for a graph: hundreds of them take a second."""
    of_graph = _KNOWN.setdefault(graph, {})
    key = tuple(candidates)
    if key not in of_graph:
        of_graph[key] = SourceMatch(graph, key)
    return of_graph[key]
