"""PyTorch Geometric data from a graph or a case's subgraph. The only module of kg that imports torch."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.data import Data

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


# Type id of a reversed relation = its own id + this; a graph's predicates are numbered in one byte.
REVERSE_OFFSET = 256
