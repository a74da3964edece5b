"""What a graph holds, in numbers."""

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kg import KnowledgeGraph


def facts_of(graph: "KnowledgeGraph") -> dict[str, Any]:
    """Return counts by kind, relation and source, the sources themselves, and what was left out; ready for JSON."""
    arrays = graph.arrays

    def counted(codes: Any, names: tuple[str, ...]) -> dict[str, int]:
        return {names[code]: number for code, number in Counter(codes.tolist()).most_common()}

    origins = tuple(source.name for source in graph.sources)
    relations = counted(arrays["relation_source"], origins)
    synonyms = counted(arrays["synonym_source"], origins)
    per_concept = arrays["synonym_indptr"][1:] - arrays["synonym_indptr"][:-1]
    kinds = arrays["kind"].repeat(per_concept)
    return {
        "hash": graph.hash,
        "n_concepts": graph.n_concepts,
        "n_relations": graph.n_relations,
        "concepts": counted(arrays["kind"], graph.kinds),
        "synonyms": counted(kinds, graph.kinds),
        "relations": counted(arrays["predicate"], graph.predicates),
        "sources": [
            {
                "name": source.name,
                "version": source.version,
                "licence": source.licence,
                "trust": source.trust,
                "citation": source.citation,
                "relations": relations.get(source.name, 0),
                "synonyms": synonyms.get(source.name, 0),
            }
            for source in graph.sources
        ],
        "left out or repaired": dict(graph.defects),
    }
