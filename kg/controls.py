"""A graph that keeps every degree and loses every meaning: the control that proofs of the graph's worth need."""

import numpy as np

from kg.assemble import CHANGEABLE, content_hash, relation_order, walk_columns
from kg.graph import KnowledgeGraph
from kg.schema import OTHER_PREDICATE_FLOW, PREDICATES


def shuffled_graph(graph: KnowledgeGraph, *, seed: int = 0) -> KnowledgeGraph:
    """Return the graph with the objects of its relations permuted, within predicate, source and kind of the object.

    Every concept keeps its number of relations as subject and as object, each predicate and source its share; names,
    kinds and weights stay. Only who is related to whom becomes chance (the permuted networks of Himmelstein et al.,
    eLife 2017;6:e26726, here by one permutation instead of edge swaps).
    """
    generator = np.random.default_rng(seed)
    arrays = dict(graph.arrays)
    target = arrays["object"].copy()
    groups = (
        arrays["predicate"].astype(np.int64) * 65536
        + arrays["relation_source"].astype(np.int64) * 256
        + arrays["kind"][target]
    )
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        target[rows] = generator.permutation(target[rows])
    columns = {name: arrays[name] for name in CHANGEABLE} | {"object": target}
    arrays |= relation_order(columns, graph.n_concepts)
    flow = np.array([PREDICATES.get(name, OTHER_PREDICATE_FLOW) for name in graph.predicates], dtype=np.float32)
    trust = [source.trust for source in graph.sources]
    arrays |= walk_columns(arrays, flow, trust, graph.n_concepts)
    return KnowledgeGraph(arrays=arrays, header=graph.header, content_hash=content_hash(arrays, graph.header))
