"""Score candidate diagnoses against a text by several views, and fuse them: the walk, the graph's sentences, names.

Every view gives one score a candidate; ranks are fused (Cormack et al., Reciprocal Rank Fusion, SIGIR 2009), which needs no
calibration between views.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kg.lexical import LexicalIndex
from kg.ranking import POPULARITY_EXPONENT, evidence_seeds
from kg.schema import CLOSE_MATCH, EXACT_MATCH, HAS_IMAGING_FINDING, HAS_PHENOTYPE
from kg.text.titles import title_concepts

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph
    from kg.text.linker import Linker
    from kg.text.mention import Mention

Embedder = Callable[[Sequence[str]], np.ndarray]
RANK_OFFSET = 60
_MATCHES = (EXACT_MATCH, CLOSE_MATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A diagnosis to rank: its names, and the graph's concepts that mean it (position -> weight 0-1; may be empty)."""

    key: str
    names: tuple[str, ...]
    concepts: Mapping[int, float]


def build_candidates(linker: "Linker", names: Mapping[str, Sequence[str]]) -> list[Candidate]:
    """Return candidates for diagnoses given by key and names, linked to the graph where it knows them."""
    return [
        Candidate(key=key, names=tuple(texts), concepts=title_concepts(linker, texts)) for key, texts in names.items()
    ]


class CandidateRanker:
    """Scores for a fixed list of candidates; build once, use for many texts."""

    def __init__(self, linker: "Linker", candidates: Sequence[Candidate]) -> None:
        self.linker = linker
        self.graph = linker.graph
        self.candidates = tuple(candidates)
        self._names = LexicalIndex([" ; ".join(one.names) for one in self.candidates])
        self._sentences = LexicalIndex([candidate_text(self.graph, one) for one in self.candidates])

    def name_scores(self, text: str) -> np.ndarray:
        """Return (n,) lexical scores of the candidates' names: the view that knows no graph."""
        return self._names.scores(text)

    def sentence_scores(self, text: str) -> np.ndarray:
        """Return (n,) lexical scores of what the graph's sources say about each candidate."""
        return self._sentences.scores(text)

    def walk_scores(self, mentions: Iterable["Mention"], *, exclude: Iterable[str] = ()) -> np.ndarray:
        """Return (n,) walk scores from the mentions' concepts; 0 for candidates that the graph does not know."""
        seeds = evidence_seeds(self.graph, mentions, exclude=exclude)
        return self.scores_from(self.graph.personalised_pagerank(seeds))

    def scores_from(self, visits: np.ndarray) -> np.ndarray:
        """Return (n,) candidate scores for visiting probabilities (V,) of a walk, freed of popularity."""
        popularity = self.graph.arrays["popularity"]
        scores = np.zeros(len(self.candidates))
        for at, candidate in enumerate(self.candidates):
            for concept, weight in candidate.concepts.items():
                value = weight * visits[concept] / float(popularity[concept]) ** POPULARITY_EXPONENT
                scores[at] = max(scores[at], value)
        return scores


def candidate_text(graph: "KnowledgeGraph", candidate: Candidate) -> str:
    """Return the names, definitions and finding sentences that the graph holds for a candidate."""
    lines: dict[str, None] = dict.fromkeys(candidate.names)
    for concept in candidate.concepts:
        for one in (concept, *_matching(graph, concept)):
            lines[graph.name(one)] = None
            lines[graph.text(one)] = None
            for neighbor in graph.neighbors(one):
                if neighbor.is_forward and neighbor.predicate in (HAS_IMAGING_FINDING, HAS_PHENOTYPE):
                    lines[graph.name(neighbor.concept)] = None
    return "\n".join(lines)


def _matching(graph: "KnowledgeGraph", concept: int) -> list[int]:
    return [neighbor.concept for neighbor in graph.neighbors(concept) if neighbor.predicate in _MATCHES]


def embedding_scores(text_vector: np.ndarray, name_vectors: np.ndarray) -> np.ndarray:
    """Return (n,) cosine similarities of one text (F,) with names (n, F)."""
    norms = np.linalg.norm(name_vectors, axis=1) * max(float(np.linalg.norm(text_vector)), 1e-12)
    result: np.ndarray = name_vectors @ text_vector / np.maximum(norms, 1e-12)
    return result


def fuse(views: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Return (n,) fused scores: the sum over views of weight / (60 + rank). Candidates a view scores 0 get nothing of it.

    Ties inside a view share the mean of their ranks, so the order of candidates does not matter.
    """
    from scipy.stats import rankdata

    total = np.zeros(len(views[0]))
    for view, weight in zip(views, weights or [1.0] * len(views), strict=True):
        ranks = rankdata(-view, method="average")
        total += np.where(view != 0, weight / (RANK_OFFSET + ranks), 0.0)
    return total
