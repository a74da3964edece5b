"""The graph itself: immutable columns, looked up by position. Concepts are numbered by sorted id."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kg.schema import SCOPES, Source, Synonym
from kg.strings import StringTable

if TYPE_CHECKING:
    import networkx
    from scipy import sparse

    from kg.subgraph import Subgraph


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphHeader:
    """What is not a column: vocabulary, sources, builder version, and the defects found while building."""

    builder: str
    kinds: tuple[str, ...]
    predicates: tuple[str, ...]
    sources: tuple[Source, ...]
    defects: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "builder": self.builder,
            "kinds": list(self.kinds),
            "predicates": list(self.predicates),
            "sources": [asdict(source) for source in self.sources],
            "defects": dict(self.defects),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GraphHeader":
        """Inverse of `to_dict`."""
        return cls(
            builder=data["builder"],
            kinds=tuple(data["kinds"]),
            predicates=tuple(data["predicates"]),
            sources=tuple(Source(**source) for source in data["sources"]),
            defects=data["defects"],
        )


class Neighbor(NamedTuple):
    """One relation seen from one of its ends. `relation` is its row, `concept` the other end."""

    concept: int
    relation: int
    predicate: str
    weight: float
    is_forward: bool


class KnowledgeGraph:
    """Concepts and relations as columns. Positions (int) are stable within one `hash` only; CURIEs across graphs."""

    def __init__(self, *, arrays: Mapping[str, np.ndarray], header: GraphHeader, content_hash: str) -> None:
        for array in arrays.values():
            array.flags.writeable = False
        self.arrays: Mapping[str, np.ndarray] = MappingProxyType(dict(arrays))
        self.header = header
        self.hash = content_hash

    def __repr__(self) -> str:
        return f"KnowledgeGraph({self.n_concepts:,} concepts, {self.n_relations:,} relations, {self.hash[:12]})"

    @property
    def n_concepts(self) -> int:
        """Number of concepts V."""
        return len(self.arrays["kind"])

    @property
    def n_relations(self) -> int:
        """Number of relations E."""
        return len(self.arrays["subject"])

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the claims come from, in the order that `relation_source` counts."""
        return self.header.sources

    @property
    def predicates(self) -> tuple[str, ...]:
        """Predicates; a relation's type id is a position in this tuple."""
        return self.header.predicates

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds; a concept's kind id is a position in this tuple."""
        return self.header.kinds

    @property
    def defects(self) -> Mapping[str, int]:
        """What was left out or repaired while building, counted by reason."""
        return self.header.defects

    def _table(self, name: str) -> StringTable:
        return StringTable(self.arrays[f"{name}_offsets"], self.arrays[f"{name}_data"])

    @cached_property
    def ids(self) -> StringTable:
        """CURIEs by position."""
        return self._table("id")

    @cached_property
    def names(self) -> StringTable:
        """Names by position."""
        return self._table("name")

    @cached_property
    def synonym_table(self) -> StringTable:
        """All synonyms; those of concept i are rows `synonym_indptr[i]` to `synonym_indptr[i + 1]`."""
        return self._table("synonym")

    @cached_property
    def _keys(self) -> StringTable:
        return self._table("key")

    def __contains__(self, curie: object) -> bool:
        return isinstance(curie, str) and self._keys.find(curie) >= 0

    def index(self, curie: str) -> int:
        """Return the position of a concept by its id or by any id merged into it.

        Raises:
            KeyError: If the graph has no such concept.
        """
        at = self._keys.find(curie)
        if at < 0:
            raise KeyError(f"Expected a concept of the graph (got {curie!r}).")
        return int(self.arrays["key_concept"][at])

    def id(self, index: int) -> str:
        """Return the CURIE at a position."""
        return self.ids[index]

    def name(self, index: int) -> str:
        """Return the name at a position."""
        return self.names[index]

    def kind(self, index: int) -> str:
        """Return the kind at a position."""
        return self.kinds[self.arrays["kind"][index]]

    def of_kind(self, *kinds: str) -> np.ndarray:
        """Return the positions of all concepts of the given kinds, ascending."""
        wanted = [self.kinds.index(kind) for kind in kinds]
        return np.flatnonzero(np.isin(self.arrays["kind"], wanted))

    def synonyms(self, index: int) -> tuple[Synonym, ...]:
        """Return other names with their scope."""
        start, stop = self.arrays["synonym_indptr"][index : index + 2].tolist()
        texts, scopes = self.synonym_table, self.arrays["synonym_scope"]
        return tuple(Synonym(texts[row], SCOPES[scopes[row]]) for row in range(start, stop))

    def xrefs(self, index: int) -> tuple[str, ...]:
        """Return ids of other vocabularies that mean the same."""
        start, stop = self.arrays["xref_indptr"][index : index + 2].tolist()
        table = self._table("xref")
        return tuple(table[row] for row in range(start, stop))

    @cached_property
    def _aliases(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for key, concept in zip(self._keys.to_list(), self.arrays["key_concept"].tolist(), strict=True):
            found.setdefault(concept, []).append(key)
        return found

    def aliases(self, index: int) -> tuple[str, ...]:
        """Return every id under which `index()` finds this concept, its own included."""
        return tuple(self._aliases[index])

    def text(self, index: int) -> str:
        """Return the sources' sentences on a concept (definition, descriptions), one a line."""
        return self._table("text")[index]

    def neighbors(self, index: int) -> list[Neighbor]:
        """Return all relations of a concept: those it is the subject of, then those it is the object of."""
        forward = range(*self.arrays["forward_indptr"][index : index + 2].tolist())
        start, stop = self.arrays["backward_indptr"][index : index + 2].tolist()
        backward = self.arrays["backward_rows"][start:stop].tolist()
        return [self._neighbor(row, "object", True) for row in forward] + [
            self._neighbor(row, "subject", False) for row in backward
        ]

    def _neighbor(self, row: int, end: str, is_forward: bool) -> Neighbor:
        predicate = self.predicates[self.arrays["predicate"][row]]
        return Neighbor(int(self.arrays[end][row]), row, predicate, float(self.arrays["weight"][row]), is_forward)

    @cached_property
    def degrees(self) -> np.ndarray:
        """(V,) number of relations of each concept, both directions."""
        return np.diff(self.arrays["forward_indptr"]) + np.diff(self.arrays["backward_indptr"])

    @cached_property
    def walk_matrix(self) -> "sparse.csr_array":
        """(V, V) float32, entry [j, i] = chance to step from i to j. Rows share memory with the columns."""
        from scipy import sparse

        shape = (self.n_concepts, self.n_concepts)
        parts = (self.arrays["walk_data"], self.arrays["walk_indices"], self.arrays["walk_indptr"])
        return sparse.csr_array(parts, shape=shape, copy=False)

    def personalised_pagerank(self, seeds: Mapping[str, float], alpha: float = 0.5, steps: int = 12) -> np.ndarray:
        """Return (V,) float32 visiting probabilities of a walk that restarts at the seeds; see `kg.walk`."""
        from kg.walk import personalised_pagerank

        return personalised_pagerank(self, seeds, alpha=alpha, steps=steps)

    def personalised_pagerank_batch(
        self, seeds: Sequence[Mapping[str, float]], alpha: float = 0.5, steps: int = 12
    ) -> np.ndarray:
        """Return (B, V) float32, one row for each seed set."""
        from kg.walk import personalised_pagerank_batch

        return personalised_pagerank_batch(self, seeds, alpha=alpha, steps=steps)

    def subgraph(self, seeds: Mapping[str, float], size: int = 250) -> "Subgraph":
        """Return the concepts nearest to the seeds and the relations among them; see `kg.subgraph`."""
        from kg.subgraph import case_subgraph

        return case_subgraph(self, seeds, size=size)

    def to_networkx(self) -> "networkx.MultiDiGraph":
        """Return a view for people: nodes by CURIE, edges keyed by predicate and source."""
        from kg.views import to_networkx

        return to_networkx(self)

    def iterate_relations(self) -> Iterator[tuple[int, int, int]]:
        """Yield (subject, predicate id, object) of every relation, in row order."""
        yield from zip(
            self.arrays["subject"].tolist(),
            self.arrays["predicate"].tolist(),
            self.arrays["object"].tolist(),
            strict=True,
        )
