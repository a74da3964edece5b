"""What a concept is called in a vocabulary that a corpus was annotated with, such as MeSH and OMIM."""

import re
from collections import defaultdict
from collections.abc import Iterable

from kg import KnowledgeGraph
from kg.schema import CLOSE_MATCH, EXACT_MATCH, SUBCLASS_OF
from kg.text.normalise import normal_name
from kg.text.variants import variants

# "Familial adenomatous polyposis 1": one of a numbered series, which coarser vocabularies keep as one entry.
_NUMBERED = re.compile(r"\d$")


class VocabularyMap:
    """Ids of a target vocabulary for each concept.

    Its own and its xrefs; else those of its matches in other sources; else those of a concept with one of its names;
    else those of the next broader concept that has any, since a corpus annotated with a coarser vocabulary means that
    (Dogan et al. 2014, guidelines). A member of a numbered series that MeSH does not know is called by its parent.
    """

    def __init__(
        self, graph: KnowledgeGraph, prefixes: tuple[str, ...] = ("MESH", "OMIM"), *, broader_steps: int = 3
    ) -> None:
        self.graph = graph
        self.prefixes = prefixes
        self.broader_steps = broader_steps
        self._known: dict[int, frozenset[str]] = {}
        self._by_name: dict[str, frozenset[str]] = self._names()

    def ids(self, concept: int) -> frozenset[str]:
        """Return the vocabulary's ids for a concept; empty where no source maps it."""
        if concept not in self._known:
            self._known[concept] = self._find(concept)
        return self._known[concept]

    def _find(self, concept: int) -> frozenset[str]:
        own = self._own(concept) or _union(
            self._own(match) for match in self._related(concept, (EXACT_MATCH, CLOSE_MATCH))
        )
        if own and not _has_mesh(own) and _NUMBERED.search(self.graph.name(concept)):
            series = self._broader(concept, 1)
            return series if _has_mesh(series) else own
        return own or self._by_other_names(concept) or self._broader(concept, self.broader_steps)

    def _own(self, concept: int) -> frozenset[str]:
        names = (*self.graph.aliases(concept), *self.graph.xrefs(concept))
        return frozenset(
            name for name in names if name.partition(":")[0] in self.prefixes and not name.startswith("OMIM:PS")
        )

    def _by_other_names(self, concept: int) -> frozenset[str]:
        exact = (one.text for one in self.graph.synonyms(concept) if one.scope == "exact")
        names = [normal_name(name) for name in (self.graph.name(concept), *exact)]
        turned = (" ".join(form) for name in names for form in variants(name.split()))
        for name in (*names, *turned):
            if found := self._by_name.get(name):
                return found
        return frozenset()

    def _broader(self, concept: int, steps: int) -> frozenset[str]:
        level = {concept}
        for _ in range(steps):
            level = {parent for one in level for parent in self._related(one, (SUBCLASS_OF,), is_forward=True)}
            if found := _union(self._own(parent) for parent in level):
                return found
        return frozenset()

    def _related(self, concept: int, predicates: tuple[str, ...], *, is_forward: bool = False) -> list[int]:
        return [
            neighbor.concept
            for neighbor in self.graph.neighbors(concept)
            if neighbor.predicate in predicates and (neighbor.is_forward or not is_forward)
        ]

    def _names(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for concept in self.graph.of_kind("disease", "phenotype", "finding", "code").tolist():
            if own := self._own(concept):
                others = (one.text for one in self.graph.synonyms(concept) if one.scope != "broad")
                for name in (self.graph.name(concept), *others):
                    found[normal_name(name)] |= own
        return {name: frozenset(ids) for name, ids in found.items()}


def _union(groups: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*groups)


def _has_mesh(ids: frozenset[str]) -> bool:
    return any(one.startswith("MESH:") for one in ids)
