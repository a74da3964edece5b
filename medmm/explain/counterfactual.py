"""Counterfactuals: the smallest set of report sentences, or of concepts, whose removal changes the answer.

Sets are tried by size as long as the budget lasts, so the first hit is the smallest there is. Where there are too many
sets, the search goes greedily: it takes away what lowers the answer most until the answer changes, then puts back
whatever was not needed. Such a set cannot be made smaller by leaving one part in, but a smaller one may exist; the
result says which of the two it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

import torch

from medmm.config import TaskSpec
from medmm.encoders.text import sentence_spans
from medmm.evidence import seeds
from medmm.explain.removal import chances_of, without_concepts, without_sentences
from medmm.inputs import CaseReader, CaseView
from medmm.results import Counterfactual, RemovedPart

BUDGET = 80  # questions put to the model for one set of parts
MAX_EXACT = 3  # parts; larger sets are no short reason any more


@dataclass(slots=True)
class Search:
    """Which sets were asked about; `chances(removed)` gives the probabilities (L,) without the parts `removed`."""

    n_parts: int
    target: int
    chances: Callable[[frozenset[int]], torch.Tensor]
    budget: int = BUDGET
    asked: dict[frozenset[int], torch.Tensor] = field(default_factory=dict)

    def ask(self, removed: frozenset[int]) -> torch.Tensor:
        """Probabilities without a set of parts; asked once each."""
        if removed not in self.asked:
            self.asked[removed] = self.chances(removed)
        return self.asked[removed]

    def changes(self, removed: frozenset[int]) -> bool:
        """Whether another class becomes the most probable one."""
        return int(self.ask(removed).argmax()) != self.target

    @property
    def left(self) -> int:
        """Questions that may still be asked."""
        return self.budget - len(self.asked)

    def find(self) -> tuple[frozenset[int], bool]:
        """Return the set found, empty if there is none, and whether every smaller set was tried."""
        self.ask(frozenset())
        tried_up_to = 0
        for size in range(1, min(self.n_parts, MAX_EXACT) + 1):
            if comb(self.n_parts, size) > self.left:
                break
            hits = [s for s in map(frozenset, combinations(range(self.n_parts), size)) if self.changes(s)]
            if hits:  # of sets of one size, the one after which the old answer is least likely
                return min(hits, key=lambda hit: (float(self.ask(hit)[self.target]), sorted(hit))), True
            tried_up_to = size
        if tried_up_to == self.n_parts:
            return frozenset(), True
        found = self._greedy()
        return found, bool(found) and len(found) == tried_up_to + 1

    def _greedy(self) -> frozenset[int]:
        removed: frozenset[int] = frozenset()
        while len(removed) < self.n_parts:
            rest = [removed | {part} for part in range(self.n_parts) if part not in removed]
            if self.left < len(rest):
                return frozenset()
            removed = min(rest, key=lambda option: (float(self.ask(option)[self.target]), sorted(option)))
            if self.changes(removed):
                return self._prune(removed)
        return frozenset()

    def _prune(self, removed: frozenset[int]) -> frozenset[int]:
        for part in sorted(removed):
            smaller = removed - {part}
            if smaller and (smaller in self.asked or self.left > 0) and self.changes(smaller):
                removed = smaller
        return removed


def counterfactuals(
    reader: CaseReader, view: CaseView, task: TaskSpec, target: int, budget: int = BUDGET
) -> tuple[Counterfactual, ...]:
    """Return for sentences and for concepts the smallest set found; one item for each kind that the case has."""
    found = []
    if reader.text_encoder is not None and view.features.text is not None and view.case.report is not None:
        text = view.case.report.text
        spans = sentence_spans(text)
        parts = tuple(RemovedPart(text=text[start:end], start=start, end=end) for start, end in spans)

        def without(removed: frozenset[int]) -> torch.Tensor:
            return chances_of(reader, without_sentences(reader, view, [spans[row] for row in removed]), task)

        found.append(_result("sentences", parts, Search(len(parts), target, without, budget), task))
    if reader.graph is not None and view.features.subgraph is not None:
        graph = reader.graph
        names = list(seeds(view.evidence, reader.answers, graph))
        parts = tuple(RemovedPart(text=graph.name(graph.index(name)), concept=name) for name in names)

        def denied(removed: frozenset[int]) -> torch.Tensor:
            gone = {names[row] for row in removed}
            return chances_of(reader, without_concepts(reader, view, gone), task)

        found.append(_result("concepts", parts, Search(len(parts), target, denied, budget), task))
    return tuple(found)


def _result(kind: str, parts: tuple[RemovedPart, ...], search: Search, task: TaskSpec) -> Counterfactual:
    removed, is_smallest = search.find()
    chances = search.ask(removed)
    best = int(chances.argmax())
    return Counterfactual(
        kind=kind,  # type: ignore[arg-type]  # one of the two literals above
        removed=tuple(parts[row] for row in sorted(removed)),
        answer=task.classes[best].name,
        probability=float(chances[best]),
        is_smallest=is_smallest,
        n_candidates=len(parts),
        n_asked=len(search.asked),
        budget=search.budget,
    )
