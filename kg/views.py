"""The graph in other libraries' forms: networkx, for people to look at parts of it."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import networkx

    from kg.graph import KnowledgeGraph


def to_networkx(graph: "KnowledgeGraph", concepts: np.ndarray | None = None) -> "networkx.MultiDiGraph":
    """Return nodes by CURIE (name, kind) and edges keyed by (predicate, source), with weight, polarity and provenance.

    Args:
        concepts: Positions to keep, with the relations among them; all where None. The whole default graph takes
            seconds and hundreds of MB in this form: it is for looking at parts.
    """
    import networkx

    view = networkx.MultiDiGraph(hash=graph.hash)
    positions = np.arange(graph.n_concepts) if concepts is None else np.asarray(concepts)
    is_kept = np.zeros(graph.n_concepts, dtype=bool)
    is_kept[positions] = True
    for position in positions.tolist():
        view.add_node(graph.id(position), name=graph.name(position), kind=graph.kind(position))
    arrays = graph.arrays
    rows = np.flatnonzero(is_kept[arrays["subject"]] & is_kept[arrays["object"]])
    for row in rows.tolist():
        predicate = graph.predicates[arrays["predicate"][row]]
        source = graph.sources[arrays["relation_source"][row]]
        view.add_edge(
            graph.id(int(arrays["subject"][row])),
            graph.id(int(arrays["object"][row])),
            key=f"{predicate} {source.name}",
            predicate=predicate,
            weight=float(arrays["weight"][row]),
            polarity=int(arrays["polarity"][row]),
            source=source.name,
            source_version=source.version,
            trust=source.trust,
        )
    return view
