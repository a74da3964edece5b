"""PyTorch Geometric data from a graph or a case's subgraph. The only module of kg that imports torch."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.data import Data, HeteroData

from kg.subgraph import Subgraph

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph


def to_pyg(
    graph: "KnowledgeGraph | Subgraph", features: np.ndarray | None = None, *, is_reversible: bool = True
) -> Data:
    """Return one `Data`: `edge_index` (2, E'), `edge_type` (E',), `edge_weight` (E',), `num_nodes`, and `x` if given.

    Args:
        graph: A whole graph or a subgraph; node order is kept.
        features: (V, F) float32, such as name embeddings of the same concepts.
        is_reversible: Add every relation again from object to subject with type id + 1 x (number of predicates that a
            graph can have, 256), so that messages pass both ways and direction stays readable.
    Returns:
        For a subgraph also `concepts`, `seed_weights` and `scores`, one entry a node.
    """
    if isinstance(graph, Subgraph):
        edges, relations, weights, count = graph.edges, graph.relations, graph.weights, len(graph.concepts)
    else:
        arrays = graph.arrays
        edges = np.stack([arrays["subject"], arrays["object"]]).astype(np.int64)
        relations = arrays["predicate"].astype(np.int64)
        trust = np.array([source.trust for source in graph.sources], dtype=np.float32)
        weights, count = arrays["weight"] * trust[arrays["relation_source"]], graph.n_concepts
    if features is not None and len(features) != count:
        raise ValueError(f"Expected features for {count} concepts (got {len(features)}).")
    edge_index, edge_type = torch.from_numpy(np.array(edges)), torch.from_numpy(np.array(relations))
    edge_weight = torch.from_numpy(np.array(weights, dtype=np.float32))
    if is_reversible:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        edge_type = torch.cat([edge_type, edge_type + REVERSE_OFFSET])
        edge_weight = edge_weight.repeat(2)
    data = Data(edge_index=edge_index, edge_type=edge_type, edge_weight=edge_weight, num_nodes=count)
    if features is not None:
        data.x = torch.from_numpy(np.array(features, dtype=np.float32))
    if isinstance(graph, Subgraph):
        data.concepts = torch.from_numpy(np.array(graph.concepts))
        data.seed_weights = torch.from_numpy(np.array(graph.seed_weights))
        data.scores = torch.from_numpy(np.array(graph.scores))
    return data


def to_hetero(
    graph: "KnowledgeGraph", subgraph: Subgraph | None = None, features: np.ndarray | None = None
) -> HeteroData:
    """Return one `HeteroData`: a node store a kind, an edge store a (kind, predicate, kind) that occurs.

    Args:
        subgraph: A part of `graph`; the whole of it where None.
        features: (V, F) float32 of the same concepts in the same order.
    Returns:
        Node stores hold `concepts` (n,) int64 positions in `graph`, ascending in the order given, and `x` (n, F) where
        features are given; edge stores `edge_index` (2, e) int64 from subject to object within their kinds, and
        `edge_weight` (e,) float32, strength x trust.
    """
    flat = to_pyg(graph if subgraph is None else subgraph, features, is_reversible=False)
    concepts = np.arange(graph.n_concepts) if subgraph is None else subgraph.concepts
    kinds = graph.arrays["kind"][concepts].astype(np.int64)
    data, place = HeteroData(), np.zeros(len(concepts), dtype=np.int64)
    for kind in np.unique(kinds).tolist():
        members = np.flatnonzero(kinds == kind)
        place[members] = np.arange(len(members))
        store = data[graph.kinds[kind]]
        store.concepts, store.num_nodes = torch.from_numpy(concepts[members].astype(np.int64)), len(members)
        if features is not None:
            store.x = flat.x[torch.from_numpy(members)]
    subject, target = flat.edge_index.numpy()
    types = np.stack([kinds[subject], flat.edge_type.numpy(), kinds[target]], axis=1)
    triples, group = np.unique(types, axis=0, return_inverse=True)
    for at, (first, predicate, second) in enumerate(triples.tolist()):
        rows = np.flatnonzero(group.ravel() == at)
        store = data[graph.kinds[first], graph.predicates[predicate], graph.kinds[second]]
        store.edge_index = torch.from_numpy(np.stack([place[subject[rows]], place[target[rows]]]))
        store.edge_weight = flat.edge_weight[torch.from_numpy(rows)]
    return data


# Type id of a reversed relation = its own id + this; a graph's predicates are numbered in one byte.
REVERSE_OFFSET = 256
