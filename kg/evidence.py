"""Evidence paths: short chains of claims from what was found to a diagnosis, best first.

A path's score is the product of its claims' strength x trust, damped for every hub in between by degree**-.4
(degree-weighted path count, Himmelstein et al., eLife 2017;6:e26726). Search is best-first with an exact bound (A*), so
the first paths found are the best; it is deterministic, free of cycles, and capped.
"""

import heapq
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kg.schema import (
    DISEASE_LOCATION,
    HAS_IMAGING_FINDING,
    HAS_PHENOTYPE,
    LOCATED_IN,
    OTHER_PREDICATE_FLOW,
    PREDICATES,
)

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

logger = logging.getLogger(__name__)

HUB_DAMPING = 0.4
MAX_EXPANSIONS = 20_000
# Most continuations of one path that are followed, and most paths that wait: the best by their bound are kept.
MAX_BRANCHES = 1000
MAX_WAITING = 400_000
MAX_HOPS = 6
# Claims that tie a disease to what is seen or where.
_EVIDENCE = frozenset((HAS_PHENOTYPE, HAS_IMAGING_FINDING, LOCATED_IN, DISEASE_LOCATION))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One claim of a path, as its source states it. `is_forward`: the path goes from subject to object."""

    subject: str
    subject_name: str
    predicate: str
    object: str
    object_name: str
    source: str
    source_version: str
    trust: float
    polarity: int
    is_forward: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePath:
    """A chain of claims from a finding to a diagnosis; `score` in (0, 1]."""

    hops: tuple[Hop, ...]
    score: float

    @property
    def start(self) -> str:
        """The concept that the path starts from."""
        return self.hops[0].subject if self.hops[0].is_forward else self.hops[0].object

    @property
    def end(self) -> str:
        """The concept that the path leads to."""
        return self.hops[-1].object if self.hops[-1].is_forward else self.hops[-1].subject


def paths(
    graph: "KnowledgeGraph",
    sources: Iterable[str] | Mapping[str, float],
    target: str,
    limit: int = 5,
    max_hops: int = 3,
) -> list[EvidencePath]:
    """Return the best paths from any of the sources to the target, best first, each pair of ends by its own routes.

    Args:
        sources: CURIEs; a mapping weighs them (0-1), which scales the scores of their paths.
        target: CURIE of the diagnosis. A source equal to it is left out: a concept is no evidence for itself.
        limit: Most paths returned.
        max_hops: Most claims a path may have, at most 6.
    Raises:
        KeyError: If a concept is not in the graph.
        ValueError: If a limit is out of range.
    """
    if not (limit >= 1 and 1 <= max_hops <= MAX_HOPS):
        raise ValueError(f"Expected limit >= 1 and 1 <= max_hops <= {MAX_HOPS} (got {limit} and {max_hops}).")
    weights = sources if isinstance(sources, Mapping) else dict.fromkeys(sources, 1.0)
    goal = graph.index(target)
    starts = {graph.index(curie): weight for curie, weight in weights.items() if weight > 0}
    starts.pop(goal, None)
    if not starts:
        return []
    return _Search(graph, goal, max_hops).best(starts, limit)


class _Search:
    """One A* search towards `goal`. Cost of a path = -log(score)."""

    def __init__(self, graph: "KnowledgeGraph", goal: int, max_hops: int) -> None:
        self.graph = graph
        self.goal = goal
        self.max_hops = max_hops
        self.damping = HUB_DAMPING * np.log(np.maximum(graph.degrees, 1))
        flow = np.array([PREDICATES.get(name, OTHER_PREDICATE_FLOW) for name in graph.predicates], dtype=np.float32)
        trust = np.array([source.trust for source in graph.sources], dtype=np.float32)
        arrays = graph.arrays
        self._flow, self._trust, self._arrays = flow, trust, arrays
        self._is_disease = arrays["kind"] == graph.kinds.index("disease")
        self._is_evidence = np.array([name in _EVIDENCE for name in graph.predicates])
        self.bounds = self._lower_bounds()

    def _edges(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All usable relations of the given concepts: (from, to, row, cost)."""
        arrays = self._arrays
        parts = []
        for indptr, end, is_forward in (("forward_indptr", "object", True), ("backward_indptr", "subject", False)):
            starts = arrays[indptr][nodes]
            counts = arrays[indptr][nodes + 1] - starts
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            rows = np.repeat(starts, counts) + within
            if not is_forward:
                rows = arrays["backward_rows"][rows]
            parts.append((np.repeat(nodes, counts), arrays[end][rows], rows))
        origin, target, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
        strength = (
            arrays["weight"][rows]
            * self._trust[arrays["relation_source"][rows]]
            * self._flow[arrays["predicate"][rows]]
            * (arrays["polarity"][rows] > 0)
        )
        used = strength > 0
        return origin[used], target[used], rows[used], -np.log(strength[used], dtype=np.float64)

    def _lower_bounds(self) -> list[np.ndarray]:
        """bounds[r][v]: least cost from v to the goal in at most r hops (infinite where there is no way)."""
        bound = np.full(self.graph.n_concepts, np.inf)
        bound[self.goal] = 0.0
        bounds, frontier = [bound], np.array([self.goal])
        for _ in range(self.max_hops - 1):
            origin, target, _, cost = self._edges(frontier)
            through = np.where(origin == self.goal, 0.0, self.damping[origin])
            bound = bound.copy()
            np.minimum.at(bound, target, bounds[-1][origin] + cost + through)
            frontier = np.flatnonzero(bound < bounds[-1])
            bounds.append(bound)
        return bounds

    def best(self, starts: Mapping[int, float], limit: int) -> list[EvidencePath]:
        # Heap entries: (bound on the whole cost, concepts so far, rows so far, cost so far). Concepts break ties.
        heap: list[tuple[float, tuple[int, ...], tuple[int, ...], float]] = []
        for start, weight in sorted(starts.items()):
            heapq.heappush(heap, (0.0, (start,), (), -float(np.log(min(weight, 1.0)))))
        found: list[EvidencePath] = []
        expansions = 0
        while heap and len(found) < limit:
            _, concepts, rows, cost = heapq.heappop(heap)
            if concepts[-1] == self.goal:
                found.append(self._path(concepts, rows, cost))
                continue
            expansions += 1
            if expansions > MAX_EXPANSIONS:
                logger.info("Path search stopped at its cap of %d steps (limit.kg)", MAX_EXPANSIONS)
                break
            self._expand(heap, concepts, rows, cost, starts)
        return found

    def _is_detour(self, entry: int, concept: int, rows: np.ndarray) -> np.ndarray:
        """Which steps would pass through another disease by two of its findings: that shares a finding, no more."""
        arrays = self._arrays
        if not (self._is_disease[concept] and self._is_evidence[arrays["predicate"][entry]]):
            return np.zeros(len(rows), dtype=bool)
        result: np.ndarray = self._is_evidence[arrays["predicate"][rows]]
        return result

    def _expand(
        self,
        heap: list[tuple[float, tuple[int, ...], tuple[int, ...], float]],
        concepts: tuple[int, ...],
        rows: tuple[int, ...],
        cost: float,
        starts: Mapping[int, float],
    ) -> None:
        """Push every continuation that can still reach the goal; paths do not pass through another source."""
        left = self.max_hops - len(rows) - 1
        _, targets, edge_rows, costs = self._edges(np.array([concepts[-1]]))
        remaining = self.bounds[left][targets]
        if rows:
            is_detour = self._is_detour(rows[-1], concepts[-1], edge_rows)
            remaining = np.where(is_detour, np.inf, remaining)
        totals = cost + costs + np.where(targets == self.goal, 0.0, self.damping[targets])
        possible = np.flatnonzero(np.isfinite(remaining))
        if len(possible) > MAX_BRANCHES:
            best = np.argsort(totals[possible] + remaining[possible], kind="stable")[:MAX_BRANCHES]
            possible = possible[best]
        for position in possible.tolist():
            concept = int(targets[position])
            if concept in concepts or concept in starts:
                continue
            total = float(totals[position])
            bound = total + float(remaining[position])
            heapq.heappush(heap, (bound, (*concepts, concept), (*rows, int(edge_rows[position])), total))
        if len(heap) > MAX_WAITING:
            heap[:] = heapq.nsmallest(MAX_WAITING // 2, heap)

    def _path(self, concepts: tuple[int, ...], rows: tuple[int, ...], cost: float) -> EvidencePath:
        hops = tuple(self._hop(row, concepts[step]) for step, row in enumerate(rows))
        return EvidencePath(hops=hops, score=float(np.exp(-cost)))

    def _hop(self, row: int, start: int) -> Hop:
        graph, arrays = self.graph, self._arrays
        subject, target = int(arrays["subject"][row]), int(arrays["object"][row])
        source = graph.sources[arrays["relation_source"][row]]
        return Hop(
            subject=graph.id(subject),
            subject_name=graph.name(subject),
            predicate=graph.predicates[arrays["predicate"][row]],
            object=graph.id(target),
            object_name=graph.name(target),
            source=source.name,
            source_version=source.version,
            trust=source.trust,
            polarity=int(arrays["polarity"][row]),
            is_forward=subject == start,
        )
